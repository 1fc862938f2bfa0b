#include "cli/table.h"

#include "base/mem.h"
#include "base/strbuf.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define CELL_MAX (512u * 1024)

void table_init(struct table *table, const char *const *heads)
{
    *table = (struct table){.heads = heads};
    while (heads[table->column_count]) {
        table->column_count++;
    }
    ASSERT(table->column_count >= 1);
    ASSERT(table->column_count <= TABLE_COLUMNS_MAX);
}

void table_done(struct table *table)
{
    for (size_t i = 0; i < table->cell_count; i++) {
        mem_free(table->cells[i]);
    }
    mem_free(table->cells);
    *table = (struct table){0};
}

/* Takes over `text`. */
static void push(struct table *table, char *text)
{
    /* Room grows in powers of two. */
    if ((table->cell_count & (table->cell_count - 1)) == 0) {
        const size_t room = MAX(table->cell_count * 2, 1u);
        char **cells = mem_try_realloc(table->cells, room * sizeof(*cells));
        if (!cells) {
            table->failed = true;
            mem_free(text);
            return;
        }
        table->cells = cells;
    }
    table->cells[table->cell_count++] = text;
}

void table_add_bytes(struct table *table, const char *bytes, size_t size)
{
    struct strbuf out;
    char *text;
    size_t text_size;
    strbuf_init(&out, CELL_MAX);
    for (size_t i = 0; i < size; i++) {
        const unsigned char c = (unsigned char)bytes[i];
        const bool c1 = c == 0xc2 && i + 1 < size && (unsigned char)bytes[i + 1] < 0xa0;
        if (c < 0x20 || c == 0x7f || c1) {
            strbuf_addf(&out, "\\x%02x", c1 ? (unsigned char)bytes[++i] : c);
        } else {
            strbuf_add_bytes(&out, &bytes[i], 1);
        }
    }
    if (strbuf_take(&out, &text, &text_size) < 0) {
        strbuf_done(&out);
        table->failed = true;
        return;
    }
    push(table, text);
}

void table_add(struct table *table, const char *text)
{
    table_add_bytes(table, text, strlen(text));
}

void table_addf(struct table *table, const char *fmt, ...)
{
    char text[256];
    va_list va;
    va_start(va, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, va);
    va_end(va);
    table_add(table, text);
}

void table_add_size(struct table *table, uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < ARRAY_COUNT(units)) {
        value /= 1024;
        unit++;
    }
    table_addf(table, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

void table_add_duration(struct table *table, uint64_t ms)
{
    const uint64_t s = ms / 1000;
    if (s >= 86400) {
        table_addf(table, "%" PRIu64 "d %" PRIu64 "h", s / 86400, s % 86400 / 3600);
    } else if (s >= 3600) {
        table_addf(table, "%" PRIu64 "h %" PRIu64 "m", s / 3600, s % 3600 / 60);
    } else if (s >= 60) {
        table_addf(table, "%" PRIu64 "m %" PRIu64 "s", s / 60, s % 60);
    } else {
        table_addf(table, "%" PRIu64 "s", s);
    }
}

void table_add_time(struct table *table, uint64_t ms)
{
    char text[32];
    struct tm tm;
    const time_t seconds = (time_t)(ms / 1000);
    if (ms == 0 || !gmtime_r(&seconds, &tm) ||
        strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%SZ", &tm) == 0) {
        table_add(table, "-");
        return;
    }
    table_add(table, text);
}

/* Characters of UTF-8; wide and combining ones are taken for one column each. */
static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text != '\0'; text++) {
        width += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return width;
}

/* Blanks are printed only in front of something. */
static void print_row(const char *const *cells, const size_t *widths, size_t count)
{
    size_t blanks = 0;
    for (size_t i = 0; i < count; i++) {
        const size_t width = width_of(cells[i]);
        if (width > 0) {
            (void)printf("%*s%s", (int)blanks, "", cells[i]);
            blanks = 0;
        }
        blanks += widths[i] - width + 2;
    }
    (void)putchar('\n');
}

int table_print(const struct table *table)
{
    size_t widths[TABLE_COLUMNS_MAX] = {0};
    if (table->failed) {
        return ERR_NOMEM;
    }
    ASSERT(table->cell_count % table->column_count == 0);
    for (size_t i = 0; i < table->column_count; i++) {
        widths[i] = width_of(table->heads[i]);
    }
    for (size_t i = 0; i < table->cell_count; i++) {
        const size_t column = i % table->column_count;
        widths[column] = MAX(widths[column], width_of(table->cells[i]));
    }
    if (table->heads[0][0] != '\0') {
        print_row(table->heads, widths, table->column_count);
    }
    for (size_t i = 0; i < table->cell_count; i += table->column_count) {
        print_row((const char *const *)&table->cells[i], widths, table->column_count);
    }
    return 0;
}
