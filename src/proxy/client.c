#include "proxy/client.h"

#include "proxy/proxy_priv.h"

/* Borrows what it is given. */
static struct facts facts_of(const struct conn *conn, struct slice client_id, struct slice username)
{
    return (struct facts){
        .values = {[FACT_CLIENT_ID] = client_id, [FACT_USERNAME] = username},
        .address = address_parse(slice_str(conn->link.address)),
    };
}

bool client_is_blocked(const struct conn *conn, const struct packet_connect *packet)
{
    const struct proxy_deps *deps = &conn->proxy->deps;
    if (!deps->rulebook)
        return false;
    const struct facts facts = facts_of(conn, packet->client_id, packet->username);
    const struct block *block =
        rulebook_blocks_client(deps->rulebook, &facts, loop_wall_ms(deps->loop));
    if (!block)
        return false;
    metric_add(&deps->metrics->denied_blocked, 1);
    log_write(deps->log, LOG_INFO, "access", "the client at %s is blocked by rule '%s'",
              conn->link.address, block->name);
    return true;
}

int client_rights(struct conn *conn, const struct packet_connect *packet)
{
    struct rulebook *rulebook = conn->proxy->deps.rulebook;
    if (!rulebook)
        return 0;
    const struct facts facts = facts_of(conn, packet->client_id, conn->link.username);
    conn->link.access = access_new(rulebook, &facts);
    return conn->link.access ? 0 : ERR_NOMEM;
}
