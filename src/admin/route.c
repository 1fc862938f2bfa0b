#include "admin/route.h"

#include "admin/actions.h"
#include "admin/pages.h"

#include <sodium.h>
#include <string.h>

#define BEARER "Bearer "

struct route {
    const char *path;
    bool prefix; /* what follows the path is a name */
    bool open;   /* to everybody */
    bool post;
    void (*handle)(struct request *request, const char *rest);
};

static const struct route routes[] = {
    {"/healthz", false, true, false, pages_health},
    {"/readyz", false, true, false, pages_ready},
    {"/metrics", false, true, false, pages_metrics},
    {"/", false, false, true, actions_handle},
    {"/v1/status", false, false, false, pages_status},
    {"/v1/limits", false, false, false, pages_limits},
    {"/v1/store", false, false, false, pages_store},
    {"/v1/certificates", false, false, false, pages_certificates},
    {"/v1/topics", false, false, false, pages_topics},
    {"/v1/topics/", true, false, false, pages_topic},
    {"/v1/clients", false, false, false, pages_clients},
    {"/v1/devices", false, false, false, pages_devices},
    {"/v1/devices/", true, false, false, pages_device},
    {"/v1/cas", false, false, false, pages_cas},
    {"/v1/device-certificates", false, false, false, pages_device_certificates},
    {"/v1/clients/", true, false, false, pages_client},
    {"/v1/policies", false, false, false, pages_policies},
    {"/v1/policy-test", false, false, false, pages_policy_test},
    {"/v1/blocks", false, false, false, pages_blocks},
};

static const struct route *find_route(const char *url)
{
    const struct route *found = NULL;
    for (size_t i = 0; i < ARRAY_COUNT(routes); i++) {
        const struct route *route = &routes[i];
        const size_t size = strlen(route->path);
        if (route->prefix ? strncmp(url, route->path, size) == 0 : strcmp(url, route->path) == 0) {
            found = route;
        }
    }
    return found;
}

bool route_is_authorised(const struct request *request)
{
    const struct route *route = find_route(request->url);
    if (route && route->open) {
        return true;
    }
    const char *given = request_header(request, MHD_HTTP_HEADER_AUTHORIZATION);
    const char *token = request->admin->config.token;
    if (!given || strncmp(given, BEARER, strlen(BEARER)) != 0) {
        return false;
    }
    given += strlen(BEARER);
    /* The length of the token is no secret; its bytes are compared in constant time. */
    return strlen(given) == strlen(token) && sodium_memcmp(given, token, strlen(token)) == 0;
}

static void refuse_stranger(struct request *request)
{
    if (request->is_post) {
        actions_refuse_stranger(request);
        return;
    }
    request_reply_problem(
        request, MHD_HTTP_UNAUTHORIZED,
        "this needs the header 'Authorization: Bearer TOKEN'; the token is in the "
        "file admin.token of the server's data directory");
}

void route_request(struct request *request)
{
    if (!request->authorised) {
        refuse_stranger(request);
        return;
    }
    const struct route *route = find_route(request->url);
    if (!route) {
        request_reply_problem(request, MHD_HTTP_NOT_FOUND, "there is nothing at this path");
        return;
    }
    if (route->post != request->is_post) {
        request_reply_problem(request, MHD_HTTP_METHOD_NOT_ALLOWED, "this path answers %s only",
                              route->post ? "POST" : "GET");
        return;
    }
    if (request->body.err < 0) {
        request_reply_problem(request, MHD_HTTP_CONTENT_TOO_LARGE,
                              "the body is larger than %u bytes", ADMIN_BODY_MAX);
        return;
    }
    route->handle(request, request->url + strlen(route->path));
}
