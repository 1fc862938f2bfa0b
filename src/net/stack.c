#include "net/stack.h"

#include "base/mem.h"
#include "net/tcp.h"

#include <stdatomic.h>

struct stack {
    _Atomic uint32_t count;
    struct listener_url url;
};

int stack_new(const struct listener_url *url, struct stack **ret_stack, struct errmsg *reterr)
{
    (void)reterr;
    struct stack *stack = mem_new(sizeof *stack);
    atomic_init(&stack->count, 1);
    stack->url = *url;
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
    if (stack && atomic_fetch_sub_explicit(&stack->count, 1, memory_order_acq_rel) == 1)
        mem_free(stack);
    return NULL;
}

struct stream *stack_open(const struct stack *stack, struct loop *loop, int fd,
                          const struct peer *peer)
{
    (void)stack;
    return tcp_new(loop, fd, peer);
}
