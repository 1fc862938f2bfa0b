/* Any bytes as what a pull brings: messages one behind the other. All that is decoded lies within
 * the input; a message is found again in exactly its own bytes and in no fewer; properties, places
 * in LMQs and compressed bodies do no harm whatever is in them. */
#include "rocketmq/rmq_message.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { BODY_MAX = 1 << 20 };

static void check_within(struct slice part, struct slice whole)
{
    ASSERT(part.size == 0 || part.bytes >= whole.bytes);
    ASSERT(part.size == 0 || part.bytes + part.size <= whole.bytes + whole.size);
}

static void check_properties(const struct rmq_message *message)
{
    struct slice rest = message->properties;
    struct rmq_property property;
    uint32_t total = 0;
    while (rmq_properties_next(&rest, &property)) {
        check_within(property.name, message->properties);
        check_within(property.value, message->properties);
        ASSERT(property.name.size > 0);
        total += property.name.size + property.value.size + 1;
        ASSERT(total <= message->properties.size);
    }
    uint64_t offset = 0;
    const struct slice names = rmq_properties_find(message->properties, RMQ_PROPERTY_LMQ_NAMES);
    const int err = rmq_message_lmq_offset(message, names, &offset);
    ASSERT(err == 0 || err == ERR_NOTFOUND || err == ERR_MALFORMED);
    ASSERT(err == 0 ? offset <= INT64_MAX : offset == 0);
}

static void check_body(const struct rmq_message *message)
{
    struct slice body = {0};
    (void)rmq_message_is_sound(message);
    const int err = rmq_message_body(message, BODY_MAX, &body);
    ASSERT(err == 0 || err == ERR_INVALID || err == ERR_MALFORMED || err == ERR_FULL);
    ASSERT(body.size <= BODY_MAX);
    slice_done(&body);
}

static void check_id(const struct rmq_message *message)
{
    char id[RMQ_MESSAGE_ID6_SIZE + 1];
    struct rmq_host host;
    uint64_t position = 0;
    rmq_message_id(message, id);
    const int err = rmq_message_parse_id(id, &host, &position);
    ASSERT(err == 0);
    ASSERT(position == message->position);
    ASSERT(host.port == message->store_host.port);
    ASSERT(host.address_size == message->store_host.address_size);
    ASSERT(memcmp(host.address, message->store_host.address, host.address_size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size > 1 << 20)
        return 0;
    const struct slice whole = slice_of(bytes, size);
    struct slice rest = whole;
    struct rmq_message message, again;
    const char *why = NULL;
    int err;
    while ((err = rmq_message_next(&rest, &message, &why)) == 0) {
        const struct slice own = slice_of(rest.bytes - message.size, message.size);
        check_within(own, whole);
        check_within(message.body, own);
        check_within(message.topic, own);
        check_within(message.properties, own);
        err = rmq_message_decode(own, &again, &why);
        ASSERT(err == 0);
        err = rmq_message_decode(slice_of(own.bytes, own.size - 1), &again, &why);
        ASSERT(err == ERR_MALFORMED);
        check_properties(&message);
        check_body(&message);
        check_id(&message);
    }
    ASSERT(err == ERR_NOTFOUND || (err == ERR_MALFORMED && why));
    ASSERT((err == ERR_NOTFOUND) == (rest.size == 0));
    return 0;
}
