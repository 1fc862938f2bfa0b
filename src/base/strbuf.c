#include "base/strbuf.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { ROOM_MIN = 256 };

void strbuf_init(struct strbuf *strbuf, size_t size_max)
{
    ASSERT(size_max < SIZE_MAX / 2);
    *strbuf = (struct strbuf){.size_max = size_max};
}

void strbuf_init_array(struct strbuf *strbuf, char *array, size_t room)
{
    ASSERT(room > 0);
    array[0] = '\0';
    *strbuf = (struct strbuf){.text = array, .room = room, .size_max = room - 1, .text_lent = true};
}

void strbuf_done(struct strbuf *strbuf)
{
    if (!strbuf->text_lent)
        mem_free(strbuf->text);
    *strbuf = (struct strbuf){0};
}

/* Makes room for `size` more bytes and a NUL, within size_max. */
static bool reserve(struct strbuf *strbuf, size_t size)
{
    ASSERT(size <= strbuf->size_max - strbuf->size);
    const size_t needed = strbuf->size + size + 1;
    if (needed <= strbuf->room)
        return true;
    const size_t room = MIN(MAX(MAX(needed, strbuf->room * 2), ROOM_MIN), strbuf->size_max + 1);
    char *grown = mem_try_realloc(strbuf->text, room);
    if (!grown) {
        strbuf->err = ERR_NOMEM;
        return false;
    }
    strbuf->text = grown;
    strbuf->room = room;
    return true;
}

void strbuf_add_bytes(struct strbuf *strbuf, const void *bytes, size_t size)
{
    if (strbuf->err < 0)
        return;
    const size_t left = strbuf->size_max - strbuf->size;
    const size_t taken = MIN(size, left);
    if (!reserve(strbuf, taken))
        return;
    if (taken > 0)
        memcpy(strbuf->text + strbuf->size, bytes, taken);
    strbuf->size += taken;
    strbuf->text[strbuf->size] = '\0';
    if (taken < size)
        strbuf->err = ERR_FULL;
}

void strbuf_add(struct strbuf *strbuf, const char *text)
{
    strbuf_add_bytes(strbuf, text, strlen(text));
}

void strbuf_addf(struct strbuf *strbuf, const char *fmt, ...)
{
    if (strbuf->err < 0)
        return;
    va_list ap;
    va_start(ap, fmt);
    const int measured = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    ASSERT(measured >= 0);
    const size_t size = MIN((size_t)measured, strbuf->size_max - strbuf->size);
    if (!reserve(strbuf, size))
        return;
    va_start(ap, fmt);
    (void)vsnprintf(strbuf->text + strbuf->size, size + 1, fmt, ap);
    va_end(ap);
    strbuf->size += size;
    if (size < (size_t)measured)
        strbuf->err = ERR_FULL;
}

/* Adds one escaped character, the `length` bytes at `at`. */
static void add_json_char(struct strbuf *strbuf, const uint8_t *at, uint32_t length)
{
    if (length == 0)
        strbuf_add(strbuf, "\\ufffd");
    else if (*at == '"' || *at == '\\')
        strbuf_addf(strbuf, "\\%c", *at);
    else if (*at == '\n')
        strbuf_add(strbuf, "\\n");
    else if (*at < 0x20 || *at == 0x7f)
        strbuf_addf(strbuf, "\\u%04x", *at);
    else
        strbuf_add_bytes(strbuf, at, length);
}

static bool json_plain(uint8_t byte)
{
    return byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\';
}

void strbuf_add_json(struct strbuf *strbuf, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    strbuf_add_bytes(strbuf, "\"", 1);
    while (size > 0 && strbuf->err == 0) {
        size_t plain = 0;
        while (plain < size && json_plain(at[plain]))
            plain++;
        strbuf_add_bytes(strbuf, at, plain);
        at += plain;
        size -= plain;
        if (size == 0)
            break;
        const uint32_t length = utf8_sequence(at, size);
        add_json_char(strbuf, at, length);
        at += MAX(length, 1u);
        size -= MAX(length, 1u);
    }
    strbuf_add_bytes(strbuf, "\"", 1);
}

int strbuf_err(const struct strbuf *strbuf)
{
    return strbuf->err;
}

int strbuf_take(struct strbuf *strbuf, char **ret_text, size_t *ret_size)
{
    ASSERT(!strbuf->text_lent);
    strbuf_add_bytes(strbuf, "", 0);
    if (strbuf->err < 0)
        return strbuf->err;
    *ret_text = strbuf->text;
    *ret_size = strbuf->size;
    strbuf_init(strbuf, strbuf->size_max);
    return 0;
}
