#include "net/stack.h"

#include "base/mem.h"
#include "net/tcp.h"
#include "net/tls.h"

#include <stdatomic.h>

struct stack {
    _Atomic uint32_t count;
    struct tls_source *tls; /* NULL: without TLS */
    struct tls_reports reports;
};

int stack_new(const struct listener_url *url, const struct stack_config *config,
              struct stack **ret_stack, struct errmsg *reterr)
{
    struct stack *stack = mem_new(sizeof *stack);
    atomic_init(&stack->count, 1);
    stack->reports = (struct tls_reports){config->log, config->metrics};
    if (url->tls) {
        const int err = tls_source_new(url->query, config->tls, &stack->tls, reterr);
        if (err < 0) {
            (void)stack_unref(stack);
            return err;
        }
    }
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
    mem_free(stack);
    return NULL;
}

struct tls_source *stack_tls(const struct stack *stack)
{
    return stack->tls;
}

struct stream *stack_open(const struct stack *stack, struct loop *loop, int fd,
                          const struct peer *peer)
{
    struct stream *stream = tcp_new(loop, fd, peer);
    if (stack->tls)
        stream = tls_new(loop, stream, stack->tls, "mqtt", &stack->reports);
    return stream;
}
