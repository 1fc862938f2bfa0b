#include "base/err.h"

#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void errmsg_wrap(struct errmsg *msg, const char *fmt, ...)
{
    if (!msg)
        return;
    struct errmsg head;
    const struct errmsg tail = *msg;
    va_list ap;
    va_start(ap, fmt);
    const int head_size = vsnprintf(head.text, sizeof head.text, fmt, ap);
    va_end(ap);
    ASSERT(head_size >= 0);
    const int size = snprintf(msg->text, sizeof msg->text, "%s%s%s", head.text,
                              tail.text[0] ? ": " : "", tail.text);
    if (head_size >= (int)sizeof head.text || size >= (int)sizeof msg->text)
        msg->text[sizeof msg->text - 2] = '~';
}

const char *err_text(int err)
{
    switch (err) {
    case 0:
        return "success";
#define X(name, num, text)                                                                         \
    case num:                                                                                      \
        return text;
#include "base/err.def"
#undef X
    default:
        break;
    }
    const char *text = err < 0 && err > -1000 ? strerrordesc_np(-err) : NULL;
    return text ? text : "unknown error";
}
