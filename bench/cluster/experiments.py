#!/usr/bin/env python3
"""Experiments with real RocketMQ Brokers and etcd members: what the design of the cluster rests on.
Each starts its own servers on free ports, prints its tables and ends them.

    python3 bench/cluster/experiments.py order     does a Broker reorder sends that are under way at once
    python3 bench/cluster/experiments.py pop       POP on LMQs: correctness, latency, rate, a killed Broker
    python3 bench/cluster/experiments.py etcd      rates, watch latency, leases, size of 100,000 keys
    python3 bench/cluster/experiments.py groups    100,000 consumer groups, or one group on 100,000 LMQs
    python3 bench/cluster/experiments.py rebuild   what a Broker that was killed loses, and the gate
    python3 bench/cluster/experiments.py failover  what a promoted replica knows of offsets and POP
    python3 bench/cluster/experiments.py lag       how far dispatch to LMQs lags behind acknowledgements

    --quick    small counts, to see that it works

It needs what tools/install.sh test installs. docs/rocketmq-experiments.md says what came of it.
"""

import argparse
import importlib

PARTS = {"order": "order", "pop": "pop", "etcd": "etcd_load", "groups": "groups",
         "rebuild": "rebuild", "failover": "failover", "lag": "lag"}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="small counts")
    args = parser.parse_args()
    for part in args.parts:
        importlib.import_module(PARTS[part]).run(args.quick)


if __name__ == "__main__":
    main()
