#include "net/stack.h"

#include "base/mem.h"
#include "net/proxy_header.h"
#include "net/tcp.h"
#include "net/tls.h"
#include "net/ws.h"

#include <stdatomic.h>
#include <string.h>

struct stack {
    _Atomic uint32_t count;
    struct tls_source *tls; /* NULL: without TLS */
    enum proxy_header proxy_header;
    struct tls_reports reports;
    struct ws_service *websocket; /* NULL: without */
};

static enum proxy_header proxy_header_of(const struct listener_url *url)
{
    struct listener_option option;
    if (!listener_option_find(url, "proxy_protocol", &option) || strcmp(option.value, "false") == 0)
        return PROXY_HEADER_NONE;
    return strcmp(option.value, "required") == 0 ? PROXY_HEADER_REQUIRED : PROXY_HEADER_OPTIONAL;
}

int stack_new(const struct listener_url *url, const struct stack_config *config,
              struct stack **ret_stack, struct errmsg *reterr)
{
    struct stack *stack = mem_new(sizeof *stack);
    atomic_init(&stack->count, 1);
    stack->proxy_header = proxy_header_of(url);
    stack->reports = (struct tls_reports){config->log, config->metrics};
    if (url->tls) {
        const int err = tls_source_new(url->query, config->tls, &stack->tls, reterr);
        if (err < 0) {
            (void)stack_unref(stack);
            return err;
        }
    }
    if (url->websocket)
        stack->websocket = ws_service_new(url->path, config->websocket);
    *ret_stack = stack;
    return 0;
}

struct stack *stack_ref(struct stack *stack)
{
    (void)atomic_fetch_add_explicit(&stack->count, 1, memory_order_relaxed);
    return stack;
}

struct stack *stack_unref(struct stack *stack)
{
    if (!stack || atomic_fetch_sub_explicit(&stack->count, 1, memory_order_acq_rel) > 1)
        return NULL;
    (void)tls_source_unref(stack->tls);
    (void)ws_service_unref(stack->websocket);
    mem_free(stack);
    return NULL;
}

void stack_configure(struct stack *stack, const struct ws_options *websocket)
{
    if (stack->websocket)
        ws_service_configure(stack->websocket, websocket);
}

struct tls_source *stack_tls(const struct stack *stack)
{
    return stack->tls;
}

bool stack_lingers(const struct stack *stack)
{
    return stack->websocket != NULL;
}

struct stream *stack_open(const struct stack *stack, struct loop *loop, int fd,
                          const struct peer *peer)
{
    struct stream *stream = tcp_new(loop, fd, peer);
    if (stack->proxy_header != PROXY_HEADER_NONE)
        stream = proxy_header_new(loop, stream, stack->proxy_header, stack->reports.log,
                                  stack->reports.metrics);
    if (stack->tls)
        stream = tls_new(loop, stream, stack->tls, stack->websocket ? "http/1.1" : "mqtt",
                         &stack->reports);
    if (stack->websocket)
        stream = ws_new(loop, stream, stack->websocket);
    return stream;
}
