#include "proxy/alias.h"

#include "base/mem.h"

#include <string.h>

static size_t table_size(const struct alias_table *table)
{
    return table->max * sizeof table->topics[0];
}

static void topic_done(struct alias_topic *topic, struct budget *budget)
{
    if (!topic->bytes)
        return;
    budget_give(budget, topic->size);
    mem_free(topic->bytes);
    *topic = (struct alias_topic){0};
}

void alias_done(struct alias_table *table, struct budget *budget)
{
    if (table->topics) {
        for (uint16_t i = 0; i < table->max; i++)
            topic_done(&table->topics[i], budget);
        budget_give(budget, table_size(table));
        mem_free(table->topics);
    }
    *table = (struct alias_table){0};
}

static int make_table(struct alias_table *table, struct budget *budget)
{
    if (!budget_take(budget, BUDGET_SMALL, table_size(table)))
        return ERR_NOMEM;
    table->topics = mem_try_alloc(table_size(table));
    if (!table->topics) {
        budget_give(budget, table_size(table));
        return ERR_NOMEM;
    }
    memset(table->topics, 0, table_size(table));
    return 0;
}

int alias_set(struct alias_table *table, struct budget *budget, uint16_t number, struct slice topic)
{
    ASSERT(number > 0 && number <= table->max);
    if (!table->topics) {
        const int err = make_table(table, budget);
        if (err < 0)
            return err;
    }
    if (!budget_take(budget, BUDGET_SMALL, topic.size))
        return ERR_NOMEM;
    uint8_t *copy = (uint8_t *)mem_try_copy(topic.bytes, topic.size);
    if (!copy) {
        budget_give(budget, topic.size);
        return ERR_NOMEM;
    }
    struct alias_topic *place = &table->topics[number - 1];
    topic_done(place, budget);
    *place = (struct alias_topic){.bytes = copy, .size = topic.size};
    return 0;
}

struct slice alias_get(const struct alias_table *table, uint16_t number)
{
    ASSERT(number > 0 && number <= table->max);
    if (!table->topics)
        return slice_of(NULL, 0);
    const struct alias_topic *topic = &table->topics[number - 1];
    return slice_of(topic->bytes, topic->size);
}

uint16_t alias_find(const struct alias_table *table, struct slice topic)
{
    for (uint16_t i = 0; i < table->count; i++) {
        const struct alias_topic *it = &table->topics[i];
        if (it->size == topic.size && memcmp(it->bytes, topic.bytes, topic.size) == 0)
            return (uint16_t)(i + 1);
    }
    return 0;
}
