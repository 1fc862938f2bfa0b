#include "rocketmq/rmq_codes.h"

static const struct rmq_result_row results[] = {
#define RESULT(name, code, outcome, advice) {code, #name, RMQ_##outcome, advice},
#include "rocketmq/rmq_codes.def"
};

static const struct rmq_result_row unknown = {
    -1, "unknown", RMQ_REFUSED,
    "look into the log of the server, and for what its version means by it"};

const struct rmq_result_row *rmq_codes_result(int32_t code)
{
    for (size_t i = 0; i < ARRAY_COUNT(results); i++) {
        if (results[i].code == code)
            return &results[i];
    }
    return &unknown;
}

const char *rmq_codes_request(int32_t code)
{
    static const struct {
        int32_t code;
        const char *name;
    } requests[] = {
#define REQUEST(name, code) {code, #name},
#include "rocketmq/rmq_codes.def"
    };
    for (size_t i = 0; i < ARRAY_COUNT(requests); i++) {
        if (requests[i].code == code)
            return requests[i].name;
    }
    return "unknown";
}

const char *rmq_codes_outcome(enum rmq_outcome outcome)
{
    static const char *const names[] = {
        [RMQ_DONE] = "done",       [RMQ_STORED] = "stored",
        [RMQ_NOTHING] = "nothing", [RMQ_MOVED] = "moved",
        [RMQ_BUSY] = "busy",       [RMQ_NO_ROUTE] = "no_route",
        [RMQ_GO_AWAY] = "go_away", [RMQ_UNAVAILABLE] = "unavailable",
        [RMQ_DENIED] = "denied",   [RMQ_REFUSED] = "refused",
        [RMQ_UNKNOWN] = "unknown",
    };
    ASSERT((size_t)outcome < ARRAY_COUNT(names));
    return names[outcome];
}
