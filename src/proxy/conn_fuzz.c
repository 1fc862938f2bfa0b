/* A conn fed with arbitrary bytes, cut in arbitrary pieces, in front of the fake core.
 *
 * Input: one byte of how the core behaves, one byte of how large the pieces are, then the stream.
 * Checked: what the client gets are whole, well-formed packets that a server sends, CONNACK first;
 * and the testbed's own conditions at the end: all memory given back, the core told of every end.
 */
#include "proxy/testbed.h"

enum { ANSWERS_MAX = 1 << 20, PIECES_MAX = 64 };

static uint8_t answers[ANSWERS_MAX];
static uint32_t answers_size;

static void take_answers(const struct bench *bench)
{
    while (answers_size < ANSWERS_MAX) {
        const ssize_t n = read(bench->fd, answers + answers_size, ANSWERS_MAX - answers_size);
        if (n <= 0)
            return;
        answers_size += (uint32_t)n;
    }
}

static void check_answers(void)
{
    static const uint16_t from_server =
        1 << PACKET_CONNACK | 1 << PACKET_PUBACK | 1 << PACKET_PUBREC | 1 << PACKET_SUBACK |
        1 << PACKET_UNSUBACK | 1 << PACKET_PINGRESP | 1 << PACKET_DISCONNECT;
    uint32_t pos = 0;
    while (pos < answers_size) {
        struct frame_head head;
        const int err =
            frame_parse(answers + pos, answers_size - pos, FRAME_PACKET_MAX, MQTT_V5, &head);
        ASSERT(err == 0);
        ASSERT(from_server & 1 << head.type);
        ASSERT((pos == 0) == (head.type == PACKET_CONNACK));
        pos += head.head_size + head.remaining_size;
    }
    ASSERT(pos == answers_size);
}

static void set_core(uint8_t choice)
{
    core.acks = choice & 1;
    core.ack_reason = choice & 2 ? REASON_QUOTA_EXCEEDED : REASON_SUCCESS;
    core.close_reason = choice & 4 ? REASON_RECEIVE_MAXIMUM : 0;
    core.connack_reason = choice & 8 ? REASON_NOT_AUTHORIZED : 0;
    core.disconnect_answer = choice & 16 ? REASON_PROTOCOL_ERROR : 0;
    core.holds_connack = choice & 32;
    core.assigned_id = choice & 64 ? "assigned" : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size < 2 || size > 1 << 16)
        return 0;
    struct proxy_config config;
    proxy_config_default(&config);
    config.receive_max = 4;
    config.packet_max = 4096;
    config.output_max = 2048;
    struct bench bench;
    bench_open(&bench, &config);
    set_core(bytes[0]);
    answers_size = 0;
    const size_t piece = MAX(bytes[1] == 0 ? size : bytes[1], size / PIECES_MAX + 1);
    (void)bench_client(&bench);
    for (size_t at = 2; at < size; at += MIN(piece, size - at)) {
        if (send(bench.fd, bytes + at, MIN(piece, size - at), MSG_NOSIGNAL) < 0)
            break;
        bench_turn(&bench);
        take_answers(&bench);
    }
    bench_advance(&bench, 1000000);
    bench_advance(&bench, 2000);
    take_answers(&bench);
    check_answers();
    const int detached = core.disconnects; /* or by close, which the fake core counts nowhere */
    bench_close(&bench);
    ASSERT(core.losts <= core.connects && core.losts + detached <= core.connects + 1);
    return 0;
}
