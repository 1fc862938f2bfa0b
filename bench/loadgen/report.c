#include "report.h"
#include <inttypes.h>
#include <stdio.h>

static double per_second(uint64_t count, double wall_s)
{
    return wall_s > 0 ? (double)count / wall_s : 0;
}

static double micros(const struct hist *hist, double fraction)
{
    return (double)hist_quantile(hist, fraction) / 1000.0;
}

/* The deliveries, acknowledgements or connections that a part is about. */
static uint64_t work_of(const struct measure *measure)
{
    const struct counters *c = &measure->used.counters;
    return c->delivered > 0    ? c->delivered
           : c->acked > 0      ? c->acked
           : c->published > 0  ? c->published
           : c->subscribed > 0 ? c->subscribed
                               : c->finished;
}

static bool as_expected(const struct gen *gen, const struct pattern_result *result)
{
    return !gen->failed && gen->counters.delivered == result->deliveries_expected &&
           gen->counters.acked == result->acks_expected && gen->counters.corrupt == 0;
}

static void json_text(const char *text)
{
    putchar('"');
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            putchar('\\');
        if ((unsigned char)*text >= 0x20)
            putchar(*text);
    }
    putchar('"');
}

static void json_hist(const char *name, const struct hist *hist)
{
    printf(",\"%s\":{\"count\":%" PRIu64
           ",\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f}",
           name, hist->count, micros(hist, 0.5), micros(hist, 0.99), micros(hist, 0.999),
           (double)hist->max / 1000.0);
}

static void json_measure(const struct measure *measure)
{
    const struct measure_usage *used = &measure->used;
    printf("{\"name\":\"%s\",\"wall_s\":%.6f,\"generator_cpu_s\":%.6f", measure->name, used->wall_s,
           used->generator_cpu_s);
    printf(",\"published\":%" PRIu64 ",\"acked\":%" PRIu64 ",\"delivered\":%" PRIu64
           ",\"subscribed\":%" PRIu64 ",\"connections\":%" PRIu64 ",\"reads\":%" PRIu64
           ",\"writes\":%" PRIu64 ",\"resumed\":%" PRIu64,
           used->counters.published, used->counters.acked, used->counters.delivered,
           used->counters.subscribed, used->counters.finished, used->counters.reads,
           used->counters.writes, used->counters.resumed);
    if (measure->server_is_known)
        printf(",\"server_cpu_s\":%.6f,\"server_anon_before\":%" PRIu64
               ",\"server_anon_after\":%" PRIu64,
               used->server_cpu_s, measure->start.server_anon_bytes, used->server_anon_bytes);
    printf("}");
}

static void print_json(const struct gen *gen, const struct pattern_result *result)
{
    const struct counters *c = &gen->counters;
    printf("{\"pattern\":\"%s\",\"ok\":%s,\"error\":", options_pattern_name(gen->options->pattern),
           as_expected(gen, result) ? "true" : "false");
    json_text(gen->error);
    printf(",\"published\":%" PRIu64 ",\"acked\":%" PRIu64 ",\"acks_expected\":%" PRIu64
           ",\"delivered\":%" PRIu64 ",\"deliveries_expected\":%" PRIu64,
           c->published, c->acked, result->acks_expected, c->delivered,
           result->deliveries_expected);
    printf(",\"duplicates\":%" PRIu64 ",\"gaps\":%" PRIu64 ",\"corrupt\":%" PRIu64
           ",\"connections_lost\":%" PRIu64 ",\"sessions_forgotten\":%" PRIu64,
           c->duplicates, c->gaps, c->corrupt, c->closed, c->forgotten);
    json_hist("delivery", &gen->delivery);
    json_hist("ack", &gen->ack);
    json_hist("connack", &gen->connack);
    json_hist("slip", &gen->slip);
    printf(",\"measures\":[");
    for (uint32_t i = 0; i < result->measure_count; i++) {
        if (i > 0)
            putchar(',');
        json_measure(&result->measures[i]);
    }
    printf("]}\n");
}

static void print_hist(const char *name, const struct hist *hist)
{
    if (hist->count > 0)
        printf("%-22s p50 %.0f us, p99 %.0f us, p99.9 %.0f us, max %.0f us\n", name,
               micros(hist, 0.5), micros(hist, 0.99), micros(hist, 0.999),
               (double)hist->max / 1000.0);
}

static void print_measure(const struct measure *measure)
{
    const struct measure_usage *used = &measure->used;
    const double millions = (double)work_of(measure) / 1e6;
    printf("%s: %.3f s\n", measure->name, used->wall_s);
    if (used->counters.published > 0)
        printf("  published            %" PRIu64 " (%.0f/s)\n", used->counters.published,
               per_second(used->counters.published, used->wall_s));
    if (used->counters.acked > 0)
        printf("  acknowledged         %" PRIu64 " (%.0f/s)\n", used->counters.acked,
               per_second(used->counters.acked, used->wall_s));
    if (used->counters.delivered > 0)
        printf("  delivered            %" PRIu64 " (%.0f/s)\n", used->counters.delivered,
               per_second(used->counters.delivered, used->wall_s));
    if (used->counters.subscribed > 0)
        printf("  subscribed           %" PRIu64 " (%.0f/s)\n", used->counters.subscribed,
               per_second(used->counters.subscribed, used->wall_s));
    if (used->counters.finished > 0)
        printf("  connections          %" PRIu64 " (%.0f/s)\n", used->counters.finished,
               per_second(used->counters.finished, used->wall_s));
    if (used->counters.resumed > 0)
        printf("  resumed              %" PRIu64 "\n", used->counters.resumed);
    printf("  generator CPU        %.3f s, %.0f %% of one core, %" PRIu64 " reads, %" PRIu64
           " writes\n",
           used->generator_cpu_s, 100 * used->generator_cpu_s / used->wall_s, used->counters.reads,
           used->counters.writes);
    if (!measure->server_is_known)
        return;
    printf("  server CPU           %.3f s", used->server_cpu_s);
    if (millions > 0)
        printf(", %.2f s per million", used->server_cpu_s / millions);
    printf("\n  server memory        %.1f MiB anonymous, was %.1f MiB\n",
           (double)used->server_anon_bytes / 1048576,
           (double)measure->start.server_anon_bytes / 1048576);
}

bool report_print(const struct gen *gen, const struct pattern_result *result)
{
    const struct counters *c = &gen->counters;
    if (gen->options->json) {
        print_json(gen, result);
        return as_expected(gen, result);
    }
    for (uint32_t i = 0; i < result->measure_count; i++)
        print_measure(&result->measures[i]);
    print_hist("publish to delivery", &gen->delivery);
    print_hist("publish to PUBACK", &gen->ack);
    print_hist("connect to CONNACK", &gen->connack);
    print_hist("late by the generator", &gen->slip);
    if (c->duplicates + c->gaps + c->corrupt > 0)
        printf("%" PRIu64 " duplicates, %" PRIu64 " gaps, %" PRIu64 " corrupt\n", c->duplicates,
               c->gaps, c->corrupt);
    if (as_expected(gen, result)) {
        printf("complete\n");
        return true;
    }
    printf("INCOMPLETE: %" PRIu64 " of %" PRIu64 " delivered, %" PRIu64 " of %" PRIu64
           " acknowledged%s%s\n",
           c->delivered, result->deliveries_expected, c->acked, result->acks_expected,
           gen->failed ? ": " : "", gen->error);
    return false;
}
