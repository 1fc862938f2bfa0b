#include "auth/device_auth.h"

#include "auth/devices.h"
#include "base/mem.h"
#include "io/loop.h"

struct device_auth {
    struct authenticator base;
    struct auth_deps deps;
    struct sas_key decoy; /* of devices that do not exist */
};

/* Why the token does not count; NULL: it does. */
static const char *judge(const struct device_auth *auth, const struct sas_token *token,
                         struct slice client_id, const struct device *device)
{
    /* all of them are computed, whatever the first says */
    const bool first = sas_is_signed(token, device ? &device->keys[0] : &auth->decoy);
    const bool second = sas_is_signed(token, device ? &device->keys[1] : &auth->decoy);
    if (!device)
        return "there is no such device";
    if (!sas_is_for(token, client_id))
        return "it is for another device";
    if (!first && !second)
        return "its signature is wrong";
    if (loop_wall_ms(auth->deps.loop) / 1000 >= token->expiry_s)
        return "it has expired";
    return NULL;
}

static enum auth_result device_auth_check(struct authenticator *authenticator,
                                          const struct auth_credentials *credentials,
                                          auth_done_fn *done, void *data,
                                          struct auth_answer *ret_answer,
                                          struct auth_call **ret_call)
{
    const struct device_auth *auth = CONTAINER_OF(authenticator, struct device_auth, base);
    const struct slice id = credentials->client_id;
    struct sas_token token;
    (void)done;
    (void)data;
    (void)ret_call;
    if (devices_count(auth->deps.devices) == 0 || !credentials->has_password ||
        !sas_looks_like_one(credentials->password))
        return AUTH_IGNORED;
    const struct device *device = devices_find(auth->deps.devices, id);
    const char *wrong = sas_parse(credentials->password, &token) < 0
                            ? "it is malformed"
                            : judge(auth, &token, id, device);
    if (!wrong && !device->enabled)
        wrong = "the device is disabled";
    if (wrong) {
        log_write(auth->deps.log, LOG_INFO, "auth",
                  "refused the device token of the client at %s: %s",
                  credentials->address ? credentials->address : "?", wrong);
        return AUTH_BAD_CREDENTIALS;
    }
    ret_answer->expire_at_ms = token.expiry_s * 1000;
    ret_answer->username = ret_answer->subject = id;
    return AUTH_ALLOWED;
}

static bool device_auth_knows(const struct authenticator *authenticator, struct slice subject)
{
    const struct device_auth *auth = CONTAINER_OF(authenticator, struct device_auth, base);
    const struct device *device = devices_find(auth->deps.devices, subject);
    return device && device->enabled;
}

static void device_auth_free(struct authenticator *authenticator)
{
    mem_free(CONTAINER_OF(authenticator, struct device_auth, base));
}

static const struct authenticator_ops device_auth_ops = {
    .name = DEVICE_AUTH_NAME,
    .check = device_auth_check,
    .knows = device_auth_knows,
    .free = device_auth_free,
};

struct authenticator *device_auth_new(const struct auth_deps *deps)
{
    struct device_auth *auth = mem_new(sizeof *auth);
    auth->base = (struct authenticator){.ops = &device_auth_ops, .refs = 1};
    auth->deps = *deps;
    sas_key_make(&auth->decoy);
    return &auth->base;
}
