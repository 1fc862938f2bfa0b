/* The WebSocket stage between a user and a stage below that reads and writes as the test says. */
#include "net/ws.h"

#include "base/mem.h"
#include "base/unit.h"
#include "net/peer.h"
#include "wire/websocket.h"

#include <errno.h>
#include <string.h>

enum { ROOM = 1 << 19, FRAME_MAX = 1 << 18, PARTING_MS = 1000, BROKEN = -EPIPE };

#define REQUEST                                                                                    \
    "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"               \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"                 \
    "Sec-WebSocket-Protocol: mqtt\r\n\r\n"

/* The stage below. */
struct pipe {
    struct stream stream;
    uint8_t in[ROOM], out[ROOM];
    uint8_t owed[ROOM]; /* offered and not taken: to come again */
    size_t in_begin, in_end, out_size, owed_size;
    size_t read_max, write_max; /* bytes per call */
    size_t write_room;          /* bytes in all, then ERR_AGAIN */
    bool in_ended, shut, closed;
    int write_err;
    unsigned wanted;
};

struct bench {
    struct loop *loop;
    struct pipe *pipe;
    struct stream *top;
    unsigned wants; /* of the user */
    uint8_t got[ROOM];
    size_t got_size, read_max;
    ssize_t end; /* what reading said last, 1: not yet */
    unsigned told;
    size_t seen; /* of pipe->out */
};

static ssize_t pipe_read(struct stream *stream, void *bytes, size_t size)
{
    struct pipe *pipe = CONTAINER_OF(stream, struct pipe, stream);
    const size_t n = MIN(MIN(size, pipe->read_max), pipe->in_end - pipe->in_begin);
    if (n == 0)
        return pipe->in_ended ? 0 : (ssize_t)ERR_AGAIN;
    memcpy(bytes, pipe->in + pipe->in_begin, n);
    pipe->in_begin += n;
    return (ssize_t)n;
}

static ssize_t pipe_writev(struct stream *stream, const struct iovec *iov, int iov_count)
{
    struct pipe *pipe = CONTAINER_OF(stream, struct pipe, stream);
    static uint8_t offered[ROOM];
    size_t taken = 0, offered_size = 0;
    assert_false(pipe->shut);
    if (pipe->write_err < 0)
        return pipe->write_err;
    for (int i = 0; i < iov_count; i++) {
        memcpy(offered + offered_size, iov[i].iov_base, iov[i].iov_len);
        offered_size += iov[i].iov_len;
    }
    assert_true(offered_size >= pipe->owed_size);
    assert_memory_equal(offered, pipe->owed, pipe->owed_size);
    for (int i = 0; i < iov_count; i++) {
        assert_true(iov[i].iov_len > 0);
        const size_t room = MIN(pipe->write_max - taken, pipe->write_room);
        const size_t n = MIN(iov[i].iov_len, room);
        assert_true(pipe->out_size + n <= ROOM);
        memcpy(pipe->out + pipe->out_size, iov[i].iov_base, n);
        pipe->out_size += n;
        pipe->write_room -= n;
        taken += n;
    }
    pipe->owed_size = offered_size - taken;
    memcpy(pipe->owed, offered + taken, pipe->owed_size);
    return taken > 0 ? (ssize_t)taken : (ssize_t)ERR_AGAIN;
}

static int pipe_want(struct stream *stream, unsigned events)
{
    CONTAINER_OF(stream, struct pipe, stream)->wanted = events;
    return 0;
}

static void pipe_shutdown(struct stream *stream)
{
    CONTAINER_OF(stream, struct pipe, stream)->shut = true;
}

static void pipe_close(struct stream *stream)
{
    CONTAINER_OF(stream, struct pipe, stream)->closed = true;
}

static uint64_t pipe_unsent(const struct stream *stream)
{
    (void)stream;
    return 7;
}

static const struct peer a_peer = {.text = "1.2.3.4:5"};

static const struct peer *pipe_peer(const struct stream *stream)
{
    (void)stream;
    return &a_peer;
}

static const struct stream_ops pipe_ops = {
    .name = "pipe",
    .read = pipe_read,
    .writev = pipe_writev,
    .want = pipe_want,
    .shutdown = pipe_shutdown,
    .close = pipe_close,
    .unsent = pipe_unsent,
    .peer = pipe_peer,
};

/* --- the user --------------------------------------------------------------------------------- */

static void on_ready(struct stream *stream, unsigned events)
{
    struct bench *bench = stream->owner;
    bench->told |= events;
    if (!(events & (IO_READ | IO_HANGUP)) || bench->end <= 0)
        return;
    const ssize_t n = stream_read(stream, bench->got + bench->got_size,
                                  MIN(bench->read_max, ROOM - bench->got_size));
    if (n > 0)
        bench->got_size += (size_t)n;
    else if (n != (ssize_t)ERR_AGAIN)
        bench->end = n;
    assert_int_equal(stream_want(stream, bench->end == 1 ? bench->wants : 0), 0);
}

static void want(struct bench *bench, unsigned events)
{
    bench->wants = events;
    assert_int_equal(stream_want(bench->top, events), 0);
}

/* Reports what the stage below is ready for, while there is something. */
static void settle(struct bench *bench)
{
    for (int i = 0; i < 100000; i++) {
        const struct pipe *pipe = bench->pipe;
        const bool readable = pipe->in_begin < pipe->in_end || pipe->in_ended;
        const unsigned events =
            pipe->wanted & ((readable ? IO_READ : 0) | (pipe->write_room > 0 ? IO_WRITE : 0));
        if (events && bench->end == 1)
            bench->pipe->stream.on_ready(&bench->pipe->stream, events);
        assert_int_equal(loop_turn(bench->loop, 0), 0);
        if (!events || bench->end != 1)
            return;
        if (pipe->in_ended && pipe->in_begin == pipe->in_end && !(bench->wants & IO_READ))
            return;
    }
    fail_msg("it never settles");
}

static void arrive(struct bench *bench, const void *bytes, size_t size)
{
    struct pipe *pipe = bench->pipe;
    assert_true(pipe->in_end + size <= ROOM);
    memcpy(pipe->in + pipe->in_end, bytes, size);
    pipe->in_end += size;
    settle(bench);
}

/* A frame of a client. Payloads up to 65,535 bytes. */
static void arrive_frame(struct bench *bench, uint8_t first, const void *payload, size_t size)
{
    static uint8_t frame[ROOM];
    const size_t head = size < 126 ? 2 : 4;
    frame[0] = first;
    frame[1] = (uint8_t)(0x80 | (size < 126 ? size : 126));
    frame[2] = (uint8_t)(size >> 8);
    frame[3] = (uint8_t)size;
    memcpy(frame + head, "mask", 4);
    for (size_t i = 0; i < size; i++)
        frame[head + 4 + i] = ((const uint8_t *)payload)[i] ^ (uint8_t) "mask"[i % 4];
    arrive(bench, frame, head + 4 + size);
}

/* The next bytes that went out are exactly these. */
static void expect_out(struct bench *bench, const void *bytes, size_t size)
{
    const struct pipe *pipe = bench->pipe;
    assert_int_equal(pipe->out_size - bench->seen, size);
    assert_memory_equal(pipe->out + bench->seen, bytes, size);
    bench->seen = pipe->out_size;
}

/* A close frame with this code went out, and nothing else. */
static void expect_close(struct bench *bench, uint16_t code)
{
    const struct pipe *pipe = bench->pipe;
    const uint8_t *frame = pipe->out + bench->seen;
    assert_true(pipe->out_size - bench->seen >= 4);
    assert_int_equal(frame[0], 0x88);
    assert_int_equal(frame[2] << 8 | frame[3], code);
    assert_int_equal(pipe->out_size - bench->seen, 2u + frame[1]);
    bench->seen = pipe->out_size;
}

static ssize_t put(struct bench *bench, const char *text)
{
    const struct iovec iov = {(void *)text, strlen(text)};
    return stream_writev(bench->top, &iov, 1);
}

static void open_stage(struct bench *bench)
{
    struct ws_service *service =
        ws_service_new("/mqtt", &(struct ws_options){.frame_max = FRAME_MAX});
    struct pipe *pipe = bench->pipe;
    memset(pipe, 0, sizeof *pipe);
    pipe->stream.ops = &pipe_ops;
    pipe->read_max = pipe->write_max = pipe->write_room = SIZE_MAX;
    bench->got_size = bench->seen = 0;
    bench->read_max = ROOM;
    bench->end = 1;
    bench->told = 0;
    bench->top = ws_new(bench->loop, &pipe->stream, service);
    (void)ws_service_unref(service); /* the stage has its own */
    bench->top->on_ready = on_ready;
    bench->top->owner = bench;
    want(bench, IO_READ);
}

/* With the request answered. */
static void open_frames(struct bench *bench)
{
    open_stage(bench);
    arrive(bench, REQUEST, strlen(REQUEST));
    assert_true(bench->pipe->out_size > 0);
    assert_memory_equal(bench->pipe->out, "HTTP/1.1 101 ", 13);
    bench->seen = bench->pipe->out_size;
}

static void close_stage(struct bench *bench)
{
    bench->top = stream_close(bench->top);
    assert_true(bench->pipe->closed);
    assert_int_equal(loop_turn(bench->loop, 0), 0); /* nothing is left to run */
}

/* The peer has heard us and closes. */
static void expect_end(struct bench *bench, ssize_t end)
{
    assert_true(bench->pipe->shut);
    assert_int_equal(bench->end, 1);
    bench->pipe->in_ended = true;
    settle(bench);
    assert_int_equal(bench->end, end);
    close_stage(bench);
}

/* --- beginning -------------------------------------------------------------------------------- */

static void the_request_is_answered_however_it_is_cut(void **state)
{
    struct bench *bench = *state;
    for (size_t piece = 1; piece < strlen(REQUEST) + 20; piece++) {
        open_stage(bench);
        bench->pipe->read_max = piece;
        memcpy(bench->pipe->in, REQUEST, strlen(REQUEST));
        bench->pipe->in_end = strlen(REQUEST);
        arrive_frame(bench, 0x82, "at once", 7); /* does not wait for the answer */
        assert_int_equal(bench->got_size, 7);
        assert_memory_equal(bench->got, "at once", 7);
        assert_int_equal(bench->end, 1);
        close_stage(bench);
    }
}

static void nothing_is_written_before_the_answer(void **state)
{
    struct bench *bench = *state;
    open_stage(bench);
    assert_int_equal(put(bench, "early"), ERR_AGAIN);
    assert_int_equal(bench->pipe->out_size, 0);
    bench->pipe->write_room = 10; /* the answer goes out in two parts, and then the frame */
    arrive(bench, REQUEST, strlen(REQUEST));
    assert_int_equal(bench->pipe->out_size, 10);
    bench->pipe->write_room = SIZE_MAX;
    assert_int_equal(put(bench, "late"), 4);
    const size_t size = bench->pipe->out_size;
    assert_memory_equal(bench->pipe->out + size - 10, "\r\n\r\n\x82\x04late", 10);
    close_stage(bench);
}

static void a_refused_request_is_told_why(void **state)
{
    struct bench *bench = *state;
    open_stage(bench);
    arrive(bench, "GET /other HTTP/1.1\r\nHost: x\r\n\r\nrest", 36);
    assert_memory_equal(bench->pipe->out, "HTTP/1.1 404 ", 13);
    assert_string_equal(stream_fault(bench->top), "this path is not served");
    assert_int_equal(put(bench, "x"), 1); /* taken, for nobody */
    arrive(bench, "still talking", 13);
    expect_end(bench, ERR_PROTOCOL);
}

static void too_large_a_request_is_refused(void **state)
{
    struct bench *bench = *state;
    static uint8_t filler[10000];
    memset(filler, 'x', sizeof filler);
    for (size_t piece = 100; piece <= sizeof filler; piece *= 10) {
        open_stage(bench);
        bench->pipe->read_max = piece;
        arrive(bench, "GET /mqtt HTTP/1.1\r\nA: ", 23);
        arrive(bench, filler, sizeof filler);
        assert_memory_equal(bench->pipe->out, "HTTP/1.1 431 ", 13);
        expect_end(bench, ERR_PROTOCOL);
    }
}

static void mqtt_without_websocket_is_refused(void **state)
{
    struct bench *bench = *state;
    open_stage(bench);
    arrive(bench, "\x10", 1);
    assert_memory_equal(bench->pipe->out, "HTTP/1.1 400 ", 13);
    expect_end(bench, ERR_PROTOCOL);
}

/* --- reading ---------------------------------------------------------------------------------- */

static void bytes_come_through_however_they_are_cut(void **state)
{
    struct bench *bench = *state;
    static const size_t pieces[] = {1, 2, 3, 7, 100, 4096, ROOM};
    static uint8_t plain[60000];
    for (size_t i = 0; i < sizeof plain; i++)
        plain[i] = (uint8_t)(i * 31 + i / 251);
    for (size_t p = 0; p < ARRAY_COUNT(pieces); p++) {
        open_frames(bench);
        bench->read_max = pieces[p];
        arrive_frame(bench, 0x82, plain, 10);
        arrive_frame(bench, 0x02, plain + 10, 300);
        arrive_frame(bench, 0x89, "", 0);
        arrive_frame(bench, 0x00, "", 0);
        arrive_frame(bench, 0x80, plain + 310, sizeof plain - 310);
        assert_int_equal(bench->got_size, sizeof plain);
        assert_memory_equal(bench->got, plain, sizeof plain);
        expect_out(bench, "\x8a\x00", 2);
        assert_int_equal(bench->end, 1);
        close_stage(bench);
    }
}

static void pings_are_answered_and_pongs_are_not(void **state)
{
    struct bench *bench = *state;
    open_frames(bench);
    arrive_frame(bench, 0x8a, "unasked", 7);
    expect_out(bench, "", 0);
    arrive_frame(bench, 0x89, "are you there?", 14);
    expect_out(bench,
               "\x8a\x0e"
               "are you there?",
               16);
    assert_int_equal(bench->end, 1);
    close_stage(bench);
}

/* A peer that pings and does not read: memory stays small, and the last pong is for the last ping.
 */
static void pongs_do_not_pile_up(void **state)
{
    struct bench *bench = *state;
    uint8_t payload[100] = {0};
    open_frames(bench);
    bench->pipe->write_room = 0;
    for (uint8_t i = 0; i < 200; i++) {
        payload[0] = i;
        arrive_frame(bench, 0x89, payload, sizeof payload);
        assert_true(stream_unsent(bench->top) - 7 < 1024 + 2 * 102);
    }
    assert_true(bench->pipe->wanted & IO_WRITE);
    bench->pipe->write_room = SIZE_MAX;
    settle(bench);
    const size_t size = bench->pipe->out_size - bench->seen;
    assert_true(size >= 1024 && size % 102 == 0);
    assert_int_equal(bench->pipe->out[bench->seen + 2], 0);
    assert_int_equal(bench->pipe->out[bench->pipe->out_size - 100], 199);
    assert_int_equal(bench->pipe->wanted, IO_READ);
    assert_int_equal(stream_unsent(bench->top), 7);
    close_stage(bench);
}

static void a_user_that_does_not_read_is_left_alone(void **state)
{
    struct bench *bench = *state;
    open_frames(bench);
    want(bench, 0);
    arrive_frame(bench, 0x82, "later", 5);
    assert_int_equal(bench->got_size, 0);
    want(bench, IO_READ);
    settle(bench);
    assert_int_equal(bench->got_size, 5);
    close_stage(bench);
}

/* --- ending ----------------------------------------------------------------------------------- */

static void a_close_frame_is_answered_with_its_code(void **state)
{
    struct bench *bench = *state;
    static const struct {
        const char *payload;
        size_t size;
        uint16_t code;
        int end;
    } rows[] = {
        {"\x03\xe8", 2, 1000, 0},        {"\x03\xe9going away", 12, 1001, 0},
        {"\x0f\xa0", 2, 4000, 0},        {"\x03\xed", 2, 1002, ERR_PROTOCOL}, /* 1005 */
        {"\x03", 1, 1002, ERR_PROTOCOL}, {"\x03\xe8\xff", 3, 1007, ERR_PROTOCOL},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        open_frames(bench);
        arrive_frame(bench, 0x82, "last words", 10);
        arrive_frame(bench, 0x88, rows[i].payload, rows[i].size);
        expect_close(bench, rows[i].code);
        assert_int_equal(bench->got_size, 10);
        arrive_frame(bench, 0x82, "after the end", 13); /* is not read */
        arrive_frame(bench, 0x89, "", 0);
        expect_out(bench, "", 0);
        assert_int_equal(bench->got_size, 10);
        expect_end(bench, rows[i].end);
    }
    open_frames(bench);
    arrive_frame(bench, 0x88, "", 0);
    expect_out(bench, "\x88\x00", 2);
    expect_end(bench, 0);
}

static void a_broken_rule_ends_it_with_its_code(void **state)
{
    struct bench *bench = *state;
    static const struct {
        const char *bytes;
        size_t size;
        uint16_t code;
    } rows[] = {
        {"\x82\x01x", 3, 1002},                         /* not masked */
        {"\x81\x80mask", 6, 1003},                      /* text: [MQTT5-6.0.0-1] */
        {"\x83\x80mask", 6, 1002},                      /* reserved opcode */
        {"\xc2\x80mask", 6, 1002},                      /* reserved bit */
        {"\x82\xff\0\0\0\0\0\x04\0\x01mask", 14, 1009}, /* FRAME_MAX + 1 */
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        open_frames(bench);
        arrive_frame(bench, 0x82, "good", 4);
        arrive(bench, rows[i].bytes, rows[i].size);
        expect_close(bench, rows[i].code);
        assert_int_equal(bench->got_size, 4);
        assert_non_null(stream_fault(bench->top));
        expect_end(bench, ERR_PROTOCOL);
    }
}

static void a_peer_that_does_not_close_is_not_waited_for(void **state)
{
    struct bench *bench = *state;
    open_frames(bench);
    arrive_frame(bench, 0x88, "\x03\xe8", 2);
    assert_int_equal(bench->end, 1);
    struct timer_set *timers = loop_timers(bench->loop);
    timer_set_advance(timers, timer_set_now_ms(timers) + PARTING_MS);
    settle(bench);
    assert_int_equal(bench->end, 0);
    assert_int_equal(bench->pipe->wanted, 0);
    close_stage(bench);
}

static void a_shutdown_says_goodbye(void **state)
{
    struct bench *bench = *state;
    open_frames(bench);
    assert_true(stream_lingers(bench->top));
    assert_int_equal(put(bench, "bye"), 3);
    bench->seen += 5;
    bench->pipe->write_room = 1;
    stream_shutdown(bench->top);
    assert_false(bench->pipe->shut); /* the close frame is not out */
    bench->pipe->write_room = SIZE_MAX;
    settle(bench);
    expect_out(bench, "\x88\x02\x03\xe8", 4);
    arrive_frame(bench, 0x88, "\x03\xe8", 2);
    expect_out(bench, "", 0);
    expect_end(bench, 0);
}

static void closing_at_once_says_what_it_can(void **state)
{
    struct bench *bench = *state;
    open_frames(bench);
    close_stage(bench);
    expect_out(bench, "\x88\x02\x03\xe8", 4);
    open_frames(bench);
    bench->pipe->write_room = 3;
    assert_int_equal(put(bench, "half"), 1);
    bench->pipe->write_room = SIZE_MAX;
    close_stage(bench); /* a frame is half out: nothing can be said */
    expect_out(bench, "\x82\x04h", 3);
    open_stage(bench);
    arrive(bench, "GET", 3);
    assert_false(stream_lingers(bench->top));
    close_stage(bench);
    assert_int_equal(bench->pipe->out_size, 0);
}

static void the_end_of_the_stage_below_is_passed_on(void **state)
{
    struct bench *bench = *state;
    open_frames(bench);
    bench->pipe->in_ended = true;
    settle(bench);
    assert_int_equal(bench->end, 0);
    close_stage(bench);
    open_frames(bench);
    bench->pipe->write_err = BROKEN;
    assert_int_equal(put(bench, "x"), BROKEN);
    close_stage(bench);
    open_frames(bench);
    bench->pipe->write_err = BROKEN;
    arrive_frame(bench, 0x89, "", 0);
    settle(bench);
    assert_int_equal(bench->end, BROKEN);
    close_stage(bench);
}

/* --- writing ---------------------------------------------------------------------------------- */

/* [MQTT3-6.0.0-1] [MQTT5-6.0.0-1] */
static void what_is_written_at_once_is_one_binary_frame(void **state)
{
    struct bench *bench = *state;
    static uint8_t large[70000];
    open_frames(bench);
    const struct iovec iov[] = {{"one", 3}, {"", 0}, {"two", 3}};
    assert_int_equal(stream_writev(bench->top, iov, 3), 6);
    expect_out(bench, "\x82\x06onetwo", 8);
    const struct iovec all = {large, sizeof large};
    assert_int_equal(stream_writev(bench->top, &all, 1), sizeof large);
    assert_memory_equal(bench->pipe->out + bench->seen, "\x82\x7f\0\0\0\0\0\x01\x11\x70", 10);
    assert_int_equal(bench->pipe->out_size - bench->seen, 10 + sizeof large);
    close_stage(bench);
}

/* Takes the frames apart again. Returns the bytes of the binary ones; counts the others. */
static size_t unframe(const uint8_t *bytes, size_t size, uint8_t *ret_bytes, int *ret_pongs)
{
    size_t made = 0;
    *ret_pongs = 0;
    for (size_t at = 0; at < size;) {
        size_t length = bytes[at + 1], head = 2;
        assert_true(length < 127);
        if (length == 126) {
            length = (size_t)bytes[at + 2] << 8 | bytes[at + 3];
            head = 4;
        }
        assert_true(at + head + length <= size);
        if (bytes[at] == 0x8a) {
            (*ret_pongs)++;
        } else {
            assert_int_equal(bytes[at], 0x82);
            memcpy(ret_bytes + made, bytes + at + head, length);
            made += length;
        }
        at += head + length;
    }
    return made;
}

/* However little the stage below takes, and with pings in between: whole frames go out. */
static void short_writes_leave_frames_whole(void **state)
{
    struct bench *bench = *state;
    static uint8_t text[1000], back[2000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (uint8_t)(i * 17);
    for (size_t room = 1; room < 300; room++) {
        open_frames(bench);
        size_t sent = 0;
        int pings = 0, pongs = 0;
        while (sent < sizeof text) {
            bench->pipe->write_room = room;
            const size_t part = MIN(sizeof text - sent, 130 + sent / 3), half = part / 2;
            const struct iovec iov[] = {{text + sent, half}, {text + sent + half, part - half}};
            const ssize_t n = stream_writev(bench->top, iov, 2);
            assert_true(n > 0 || n == (ssize_t)ERR_AGAIN);
            sent += n > 0 ? (size_t)n : 0;
            if (pings < 5) {
                arrive_frame(bench, 0x89, "ping", 4);
                pings++;
            }
        }
        bench->pipe->write_room = SIZE_MAX;
        settle(bench);
        const size_t size = unframe(bench->pipe->out + bench->seen,
                                    bench->pipe->out_size - bench->seen, back, &pongs);
        assert_int_equal(size, sizeof text);
        assert_memory_equal(back, text, sizeof text);
        assert_int_equal(pongs, pings);
        close_stage(bench);
    }
}

/* A broken rule while a frame is half out: its rest is taken, then the close frame follows. */
static void a_close_frame_waits_for_the_frame_before_it(void **state)
{
    struct bench *bench = *state;
    open_frames(bench);
    bench->pipe->write_room = 4;
    assert_int_equal(put(bench, "abcdef"), 2);
    arrive(bench, "\x82\x00", 2);
    expect_out(bench,
               "\x82\x06"
               "ab",
               4);
    bench->pipe->write_room = SIZE_MAX;
    assert_false(bench->pipe->shut);
    assert_int_equal(put(bench, "cdefand more"), 12); /* the rest for nobody */
    assert_memory_equal(bench->pipe->out + bench->seen, "cdef\x88", 5);
    bench->seen += 4;
    expect_close(bench, 1002);
    expect_end(bench, ERR_PROTOCOL);
}

static void readiness_to_write_is_passed_on(void **state)
{
    struct bench *bench = *state;
    open_frames(bench);
    want(bench, IO_WRITE);
    assert_int_equal(bench->pipe->wanted, IO_WRITE);
    bench->pipe->stream.on_ready(&bench->pipe->stream, IO_WRITE);
    assert_int_equal(bench->told & IO_WRITE, IO_WRITE);
    assert_ptr_equal(stream_peer(bench->top), &a_peer);
    close_stage(bench);
}

/* --- memory ----------------------------------------------------------------------------------- */

static void want_of_memory_ends_the_stream_only(void **state)
{
    struct bench *bench = *state;
    int failed = 0;
    for (uint64_t nth = 1; nth < 12; nth++) {
        open_stage(bench);
        bench->pipe->read_max = 50;
        mem_fail_at(nth);
        arrive(bench, REQUEST, strlen(REQUEST));
        bench->pipe->read_max = SIZE_MAX;
        if (bench->end == 1)
            arrive_frame(bench, 0x89, "", 0);
        if (bench->end == 1)
            arrive_frame(bench, 0x88, "", 0);
        mem_fail_at(0);
        if (bench->end == 1) {
            bench->pipe->in_ended = true;
            settle(bench);
        }
        assert_true(bench->end == 0 || bench->end == ERR_NOMEM);
        failed += bench->end == ERR_NOMEM;
        close_stage(bench);
    }
    assert_true(failed >= 3);
}

static int set_up(void **state)
{
    struct bench *bench = mem_new(sizeof *bench);
    struct errmsg err;
    bench->pipe = mem_new(sizeof *bench->pipe);
    assert_int_equal(loop_new(&bench->loop, &err), 0);
    *state = bench;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;
    (void)loop_free(bench->loop);
    mem_free(bench->pipe);
    mem_free(bench);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_request_is_answered_however_it_is_cut),
        cmocka_unit_test(nothing_is_written_before_the_answer),
        cmocka_unit_test(a_refused_request_is_told_why),
        cmocka_unit_test(too_large_a_request_is_refused),
        cmocka_unit_test(mqtt_without_websocket_is_refused),
        cmocka_unit_test(bytes_come_through_however_they_are_cut),
        cmocka_unit_test(pings_are_answered_and_pongs_are_not),
        cmocka_unit_test(pongs_do_not_pile_up),
        cmocka_unit_test(a_user_that_does_not_read_is_left_alone),
        cmocka_unit_test(a_close_frame_is_answered_with_its_code),
        cmocka_unit_test(a_broken_rule_ends_it_with_its_code),
        cmocka_unit_test(a_peer_that_does_not_close_is_not_waited_for),
        cmocka_unit_test(a_shutdown_says_goodbye),
        cmocka_unit_test(closing_at_once_says_what_it_can),
        cmocka_unit_test(the_end_of_the_stage_below_is_passed_on),
        cmocka_unit_test(what_is_written_at_once_is_one_binary_frame),
        cmocka_unit_test(short_writes_leave_frames_whole),
        cmocka_unit_test(a_close_frame_waits_for_the_frame_before_it),
        cmocka_unit_test(readiness_to_write_is_passed_on),
        cmocka_unit_test(want_of_memory_ends_the_stream_only),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
