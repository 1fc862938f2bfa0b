#include "proxy/client.h"

#include "net/peer.h"
#include "proxy/proxy_priv.h"

static struct slice text_of(const char *text)
{
    return text ? slice_str(text) : slice_of(NULL, 0);
}

/* Borrows what it is given, and the certificate of the stream's peer. */
static struct facts facts_of(const struct conn *conn, struct slice client_id, struct slice username)
{
    struct facts facts = {
        .values = {[FACT_CLIENT_ID] = client_id, [FACT_USERNAME] = username},
        .address = address_parse(slice_str(conn->link.address)),
    };
    const struct peer *peer = stream_peer(conn->stream);
    if (!peer || !peer->certificate)
        return facts;
    const struct certificate_subject *subject = &peer->certificate->subject;
    facts.values[FACT_COUNTRY] = text_of(subject->country);
    facts.values[FACT_ORGANIZATION] = text_of(subject->organization);
    facts.values[FACT_UNIT] = text_of(subject->organizational_unit);
    facts.values[FACT_STATE] = text_of(subject->state);
    facts.values[FACT_COMMON_NAME] = text_of(subject->common_name);
    facts.values[FACT_SERIAL] = text_of(subject->serial_number);
    return facts;
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

/* The rules that came with the authentication. */
static int read_acl(const struct conn *conn, const struct identity *identity, struct acl **ret_acl)
{
    const struct proxy_deps *deps = &conn->proxy->deps;
    struct errmsg why = {0};
    if (identity->acl.size == 0)
        return 0;
    const int err = acl_parse(identity->acl, ret_acl, &why);
    if (err < 0)
        log_write(deps->log, LOG_WARN, "access",
                  "refused the client at %s: the rules that came from authenticator '%s' cannot be "
                  "used: %s",
                  conn->link.address, identity->authenticator, why.text);
    else if (!rulebook_enabled(deps->rulebook))
        log_write(deps->log, LOG_WARN, "access",
                  "the rules that came from authenticator '%s' for the client at %s are passed "
                  "over, because authorization.enabled is false",
                  identity->authenticator, conn->link.address);
    return err;
}

int client_rights(struct conn *conn, const struct packet_connect *packet)
{
    const struct proxy_deps *deps = &conn->proxy->deps;
    if (!deps->rulebook)
        return 0;
    struct facts facts = facts_of(conn, packet->client_id, conn->link.username);
    const struct identity *identity = conn->identity;
    if (identity) {
        facts.is_superuser = identity->is_superuser;
        const int err = read_acl(conn, identity, &facts.acl);
        if (err < 0)
            return err;
    }
    conn->link.access = access_new(deps->rulebook, &facts);
    (void)acl_unref(facts.acl);
    return conn->link.access ? 0 : ERR_NOMEM;
}
