#include "crowd.h"
#include "client.h"
#include <stdio.h>
#include <stdlib.h>

void crowd_print_id(char *to, size_t size, const struct gen *gen, const char *kind, uint32_t index)
{
    (void)snprintf(to, size, "%.64s-%s-%u", gen->options->id_prefix, kind, index);
}

void crowd_init(struct crowd *ret_crowd, struct gen *gen, uint32_t count, const char *kind)
{
    ret_crowd->clients = bytes_new_array(count, sizeof *ret_crowd->clients);
    ret_crowd->count = count;
    for (uint32_t i = 0; i < count; i++) {
        char id[96];
        crowd_print_id(id, sizeof id, gen, kind, i);
        client_init(&ret_crowd->clients[i], gen, i, id);
    }
}

void crowd_init_publishers(struct crowd *ret_crowd, struct gen *gen, const char *topic)
{
    const struct options *options = gen->options;
    crowd_init(ret_crowd, gen, options->publishers, "pub");
    for (uint32_t i = 0; i < ret_crowd->count; i++) {
        char text[128];
        struct client *client = &ret_crowd->clients[i];
        if (topic == NULL)
            (void)snprintf(text, sizeof text, "%.64s/%u", options->topic_prefix, i);
        else
            (void)snprintf(text, sizeof text, "%.64s/%.60s", options->topic_prefix, topic);
        client_set_topic(client, text);
        client->share = options->count / ret_crowd->count + (i < options->count % ret_crowd->count);
    }
}

void crowd_publish(const struct crowd *publishers, struct gen *gen, uint64_t fan)
{
    gen->fan = fan;
    if (gen->options->rate > 0) {
        gen_pace(gen, publishers->clients, publishers->count, gen->options->count);
        return;
    }
    for (uint32_t i = 0; i < publishers->count; i++)
        gen_enqueue(gen, &publishers->clients[i]);
}

void crowd_done(struct crowd *crowd)
{
    for (uint32_t i = 0; i < crowd->count; i++)
        client_done(&crowd->clients[i]);
    free(crowd->clients);
    *crowd = (struct crowd){0};
}
