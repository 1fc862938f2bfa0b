# What people type. `make run` and `make test` install what they need first (Debian 12).
.DEFAULT_GOAL := help
.PHONY: help run build test test-long torture bench soak cluster fuzz format clean

FUZZ_SECONDS ?= 60
BENCH_ARGS ?=
TORTURE_CYCLES ?= 1000
SOAK_MINUTES ?= 30

help:
	@echo "make run        build TideMQ and start it in the foreground on 127.0.0.1:1883, data in ./data"
	@echo "make build      build it: build/release/tidemq"
	@echo "make test       run all tests (under 30 minutes)"
	@echo "make test-long  run what does not fit there too"
	@echo "make torture    kill the server TORTURE_CYCLES ($(TORTURE_CYCLES)) times; TORTURE_SEED=N for that seed"
	@echo "make bench      measure TideMQ beside other servers, tables and plots (about 45 minutes)"
	@echo "make soak       run TideMQ under a steady load for SOAK_MINUTES ($(SOAK_MINUTES)) and judge its memory"
	@echo "make cluster    start RocketMQ (3 NameSrvs, 2 groups of 2 Brokers) and 3 etcd members until Ctrl-C"
	@echo "make fuzz       run each fuzz target for FUZZ_SECONDS ($(FUZZ_SECONDS))"
	@echo "make format     format the C sources"
	@echo "make clean      remove build/ (data/ stays)"
	@echo
	@echo "run, build, test, test-long, torture, bench, soak, cluster and fuzz install missing Debian packages first, as root or"
	@echo "through sudo, and say which."

build:
	@tools/install.sh build
	cmake --preset release
	cmake --build --preset release --target tidemq

run:
	@tools/install.sh run
	@$(MAKE) --no-print-directory build
	exec build/release/tidemq serve --config packaging/run.yaml

test:
	@tools/install.sh test
	python3 tools/test.py

test-long:
	@tools/install.sh test
	python3 tools/test.py --long

torture:
	@tools/install.sh test
	@$(MAKE) --no-print-directory build
	python3 test/torture/torture.py --cycles $(TORTURE_CYCLES) \
		$(if $(TORTURE_SEED),--seed $(TORTURE_SEED))

bench:
	@tools/install.sh bench
	cmake --preset release
	cmake --build --preset release
	python3 tools/test.py --venv
	python3 bench/peers/build.py
	out=bench/results/$$(date +%Y-%m-%d-%H%M); \
	    python3 bench/run.py --output $$out $(BENCH_ARGS); \
	    status=$$?; bench/report $$out && exit $$status

soak: build
	@tools/install.sh test
	python3 tools/test.py --venv
	build/venv/bin/python bench/soak/soak.py --minutes $(SOAK_MINUTES)

cluster:
	@tools/install.sh test
	@exec python3 tools/cluster.py

fuzz:
	@tools/install.sh test
	cmake --preset fuzz
	cmake --build --preset fuzz
	tools/fuzz.sh $(FUZZ_SECONDS)

format:
	find src bench test -name '*.[ch]' -exec clang-format-14 -i {} +

clean:
	rm -rf build
