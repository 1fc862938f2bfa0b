/* WebSocket around a client's packets: the request, and frames both ways. Just enough for a load
 * generator that trusts its server.
 */
#pragma once
#include "bytes.h"
#include <stdbool.h>

/* Where reading is within the server's frames; zeroed before the first. */
struct frames {
    uint8_t head[10];
    uint8_t head_size;
    bool in_payload;
    bool is_binary;
    uint64_t left; /* bytes of payload to come */
};

void frames_add_request(struct bytes *out);

/* Returns the size of the answer to the request at the start of `data`; 0: it is not whole yet;
 * SIZE_MAX: it is a refusal. */
size_t frames_find_answer(const uint8_t *data, size_t size);

/* Moves all packets into one frame behind `wire`. */
void frames_wrap(struct bytes *wire, struct bytes *packets);

/* Takes frames apart in place. Returns how many bytes of packets are left at the start of `data`.
 */
size_t frames_unwrap(struct frames *frames, uint8_t *data, size_t size);
