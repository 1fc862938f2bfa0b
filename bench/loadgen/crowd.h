/* The clients of one kind in a pattern. */
#pragma once
#include "gen.h"

struct crowd {
    struct client *clients; /* owned */
    uint32_t count;
};

/* Makes `count` clients with identifiers of the options' prefix, `kind` and a number. */
void crowd_init(struct crowd *ret_crowd, struct gen *gen, uint32_t count, const char *kind);

/* Writes a client identifier; `size` is that of the buffer. */
void crowd_print_id(char *to, size_t size, const struct gen *gen, const char *kind, uint32_t index);

/* Makes the options' publishers, client i with the topic prefix, a slash and `topic`; a NULL topic
 * is the client's number. They share the messages among them. */
void crowd_init_publishers(struct crowd *ret_crowd, struct gen *gen, const char *topic);

/* Lets the publishers begin, all at once or at the options' rate. `fan` is how many deliveries
 * each message makes; 0 while nobody is there. */
void crowd_publish(const struct crowd *publishers, struct gen *gen, uint64_t fan);

void crowd_done(struct crowd *crowd);
