/* Patterns: what is a pattern, variables and their methods, matching, covering, overlapping. */
#include "auth/pattern.h"

#include "auth/glob.h"
#include "base/mem.h"
#include "base/unit.h"
#include "mqtt/topic.h"

#include <stdio.h>
#include <string.h>

static struct facts facts_of(const char *client_id, const char *username)
{
    struct facts facts = {.address = {0}};
    for (int i = 0; i < FACT_COUNT; i++)
        facts.values[i] = slice_of("", 0);
    facts.values[FACT_CLIENT_ID] = slice_str(client_id);
    facts.values[FACT_USERNAME] = slice_str(username);
    facts.values[FACT_COMMON_NAME] = slice_str("pump 7");
    return facts;
}

static struct pattern *pattern_of(enum pattern_kind kind, const char *text)
{
    struct pattern *pattern;
    struct errmsg why = {0};
    if (pattern_new(kind, slice_str(text), &pattern, &why) < 0)
        fail_msg("%s: %s", text, why.text);
    return pattern;
}

static void refuses_what_is_no_pattern(void **state)
{
    (void)state;
    static const struct {
        enum pattern_kind kind;
        const char *text, *why;
    } rows[] = {
        {PATTERN_TOPIC, "", "1 to 1024 bytes"},
        {PATTERN_TOPIC, "a\xff", "UTF-8"},
        {PATTERN_TOPIC, "a/b+", "not a topic filter"},
        {PATTERN_TOPIC, "a/#/b", "not a topic filter"},
        {PATTERN_TOPIC, "a/${ClientId}+", "not a topic filter"},
        {PATTERN_TOPIC, "a/*/+", "cannot stand in one topic"},
        {PATTERN_TOPIC, "*#", "cannot stand in one topic"},
        {PATTERN_TOPIC, "a/${}", "unknown variable"},
        {PATTERN_TOPIC, "a/${Clien", "unknown variable"},
        {PATTERN_TOPIC, "a/${ClientId", "unknown variable"},
        {PATTERN_TOPIC, "a/${ClientIds}", "unknown variable"},
        {PATTERN_TOPIC, "a/${T(java.lang.Runtime)}", "unknown variable"},
        {PATTERN_TOPIC, "a/${clientId.substring(1)", "not closed"},
        {PATTERN_TOPIC, "a/${clientId.substring(1) }", "not closed"},
        {PATTERN_TOPIC, "a/${clientId.}", "are known"},
        {PATTERN_TOPIC, "a/${clientId.length()}", "are known"},
        {PATTERN_TOPIC, "a/${clientId.substring()}", "one or two numbers"},
        {PATTERN_TOPIC, "a/${clientId.substring(-1)}", "one or two numbers"},
        {PATTERN_TOPIC, "a/${clientId.substring(1,)}", "one or two numbers"},
        {PATTERN_TOPIC, "a/${clientId.substring(1,2,3)}", "one or two numbers"},
        {PATTERN_TOPIC, "a/${clientId.substring(99999)}", "one or two numbers"},
        {PATTERN_TOPIC, "a/${clientId.trim().trim().trim().trim().trim()}", "at most 4 methods"},
        {PATTERN_FILTER, "a/b*/c#", "not a topic filter"},
        {PATTERN_NAME, "${Nobody}", "unknown variable"},
        {PATTERN_BLOCK, "", "1 to 1024 bytes"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct pattern *pattern = NULL;
        struct errmsg why = {0};
        if (pattern_new(rows[i].kind, slice_str(rows[i].text), &pattern, &why) != ERR_INVALID ||
            !strstr(why.text, rows[i].why))
            fail_msg("'%s' gives: %s", rows[i].text, why.text);
    }
}

/* Whatever is cut off, it is a pattern or a message, and never a leak. */
static void survives_every_cut(void **state)
{
    (void)state;
    static const char text[] = "a/${clientId.substring( 4 , 12 ).toLowerCase()}/${Username}/+/#";
    for (size_t size = 0; size < sizeof text; size++) {
        struct pattern *pattern = NULL;
        struct errmsg why = {0};
        const int err = pattern_new(PATTERN_TOPIC, slice_of(text, size), &pattern, &why);
        assert_true(err == 0 || (err == ERR_INVALID && why.text[0]));
        (void)pattern_free(err == 0 ? pattern : NULL);
    }
}

static void outlives_missing_memory(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 3; n++) {
        struct pattern *pattern = NULL;
        mem_fail_at(n);
        const int err = pattern_new(PATTERN_TOPIC, slice_str("a/*"), &pattern, NULL);
        mem_fail_at(0);
        assert_int_equal(err, ERR_NOMEM);
    }
}

static void matches_names(void **state)
{
    (void)state;
    static const struct {
        enum pattern_kind kind;
        const char *pattern, *text;
        bool matches;
    } rows[] = {
        {PATTERN_TOPIC, "a/b", "a/b", true},
        {PATTERN_TOPIC, "a/b", "a/B", false},
        {PATTERN_TOPIC, "a/+", "a/b", true},
        {PATTERN_TOPIC, "a/+", "a/b/c", false},
        {PATTERN_TOPIC, "a/#", "a", true},
        {PATTERN_TOPIC, "#", "$SYS/x", false},
        {PATTERN_TOPIC, "*", "$SYS/x", true},
        {PATTERN_TOPIC, "home/room1/*", "home/room1/a/b", true},
        {PATTERN_TOPIC, "home/room1/*", "home/room1", true},
        {PATTERN_TOPIC, "home/room1/*", "home/room12", false},
        {PATTERN_TOPIC, "*/temp", "a/b/temp", true},
        {PATTERN_TOPIC, "*/temp", "a/b/temp/x", false},
        {PATTERN_TOPIC, "s*r/*/t*", "sensor/a/b/temp", true},
        {PATTERN_TOPIC, "s*r/*/t*", "sensor/temp", false},
        {PATTERN_TOPIC, "a**b", "ab", true},
        {PATTERN_FILTER, "a/*", "a/b", false},
        {PATTERN_FILTER, "a/*", "a/*", true},
        {PATTERN_NAME, "sensor*", "sensor-1", true},
        {PATTERN_NAME, "sensor*", "a-sensor", false},
        {PATTERN_NAME, "s?", "s1", false},
        {PATTERN_NAME, "s?", "s?", true},
        {PATTERN_NAME, "a/+", "a/b", false},
        {PATTERN_BLOCK, "s?", "s1", true},
        {PATTERN_BLOCK, "s?", "s\xc3\xa9", true}, /* a character, not a byte */
        {PATTERN_BLOCK, "s?", "s", false},
        {PATTERN_BLOCK, "10.0.*", "10.0.3.4", true},
        {PATTERN_BLOCK, "${ClientId}", "${ClientId}", true},
    };
    const struct facts facts = facts_of("c", "u");
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct pattern *pattern = pattern_of(rows[i].kind, rows[i].pattern);
        if (pattern_matches(pattern, (struct pattern_client){.facts = &facts},
                            slice_str(rows[i].text)) != rows[i].matches)
            fail_msg("%s and %s", rows[i].pattern, rows[i].text);
        (void)pattern_free(pattern);
    }
}

static void puts_variables_in(void **state)
{
    (void)state;
    static const struct {
        const char *client_id, *pattern, *text;
        bool matches;
    } rows[] = {
        {"c1", "home/${ClientId}/x", "home/c1/x", true},
        {"c1", "home/${clientid}/x", "home/c1/x", true},
        {"c1", "home/${ClientId}/x", "home/c2/x", false},
        {"c1", "${ClientId}/${Username}/#", "c1/user/t", true},
        {"c1", "${Certificate.Subject.CommonName}", "pump 7", true},
        {"c1", "${Certificate.Subject.Country}", "", false}, /* there is none */
        {"c1", "x${Certificate.Subject.Country}", "x", false},
        {"CAR-123", "/${clientId.substring(4)}/status", "/123/status", true},
        {"CAR-123", "/${clientId.substring(0,3)}/status", "/CAR/status", true},
        {"CAR-123", "/${clientId.substring( 0 , 3 ).toLowerCase()}/status", "/car/status", true},
        {"car", "${clientId.toUpperCase()}", "CAR", true},
        {" car ", "${clientId.trim()}", "car", true},
        {"CAR-123", "/${clientId.substring(8)}/status", "//status", false}, /* beyond the end */
        {"CAR-123", "/${clientId.substring(7)}/status", "//status", false}, /* empty */
        {"CAR-123", "/${clientId.substring(3,8)}", "/-123", false},
        {"CAR-123", "/${clientId.substring(3,2)}", "/", false},
        {"\xc3\xa9-1", "${clientId.substring(2)}", "1", true}, /* characters, not bytes */
        /* What a client calls itself is never a wildcard. */
        {"#", "home/${ClientId}", "home/x", false},
        {"+", "home/${ClientId}/x", "home/a/x", false},
        {"*", "home/*/${ClientId}", "home/a/b", false},
        {"*", "home/*/${ClientId}", "home/a/*", true},
        {"a/b", "home/${ClientId}", "home/a/b", false}, /* strict */
        {"x/a", "home/${ClientId.substring(2)}", "home/a", true},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        const struct facts facts = facts_of(rows[i].client_id, "user");
        struct pattern *pattern = pattern_of(PATTERN_TOPIC, rows[i].pattern);
        if (pattern_matches(pattern, (struct pattern_client){.facts = &facts, .strict = true},
                            slice_str(rows[i].text)) != rows[i].matches)
            fail_msg("%s with %s and %s", rows[i].pattern, rows[i].client_id, rows[i].text);
        (void)pattern_free(pattern);
    }
}

static void slashes_count_where_it_is_denied(void **state)
{
    (void)state;
    const struct facts facts = facts_of("a/b", "user");
    struct pattern *pattern = pattern_of(PATTERN_TOPIC, "home/${ClientId}");
    assert_true(
        pattern_matches(pattern, (struct pattern_client){.facts = &facts}, slice_str("home/a/b")));
    (void)pattern_free(pattern);
}

static void long_values_do_not_match(void **state)
{
    (void)state;
    char id[PATTERN_TEXT_MAX + 2];
    memset(id, 'a', sizeof id);
    id[sizeof id - 1] = '\0';
    const struct facts facts = facts_of(id, "user");
    struct pattern *pattern = pattern_of(PATTERN_NAME, "${ClientId}*");
    assert_false(pattern_matches(pattern, (struct pattern_client){.facts = &facts}, slice_str(id)));
    (void)pattern_free(pattern);
}

static const char *const topics[] = {
    "a",   "a/b", "+",  "+/b", "a/+",   "#",   "a/#", "+/#",  "a/b/#",
    "b/#", "/",   "/+", "$a",  "$a/#",  "*",   "a*",  "*a",   "a/*",
    "*/b", "a*b", "*/", "$*",  "a/*/b", "*a*", "*/*", "a/b*", "*b/*",
};

/* Compares with every name over a small alphabet: what is covered must be matched, what is matched
 * must overlap. */
static void agrees_with_every_name(void **state)
{
    (void)state;
    static const char letters[] = "ab/$";
    const struct pattern_client client = {.facts = NULL};
    for (size_t i = 0; i < ARRAY_COUNT(topics); i++) {
        struct pattern *pattern = pattern_of(PATTERN_TOPIC, topics[i]);
        for (size_t k = 0; k < ARRAY_COUNT(topics); k++) {
            const struct slice filter = slice_str(topics[k]);
            if (memchr(filter.bytes, '*', filter.size))
                continue;
            bool all = true, some = false;
            for (uint32_t n = 0; n < 5u << 10; n++) {
                char name[5];
                const size_t size = (n >> 10) + 1;
                for (size_t at = 0; at < size; at++)
                    name[at] = letters[(n >> (2 * at)) & 3];
                if (!topic_match(filter, slice_of(name, size)))
                    continue;
                const bool matches = pattern_matches(pattern, client, slice_of(name, size));
                all &= matches;
                some |= matches;
            }
            if (pattern_covers(pattern, client, filter) && !all)
                fail_msg("%s does not cover %s", topics[i], topics[k]);
            if (some && !pattern_overlaps(pattern, client, filter))
                fail_msg("%s overlaps %s", topics[i], topics[k]);
        }
        (void)pattern_free(pattern);
    }
}

static void knows_what_covers_and_overlaps(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *filter;
        bool covers, overlaps;
    } rows[] = {
        {"#", "#", true, true},
        {"*", "#", true, true},
        {"*", "$SYS/#", true, true},
        {"#", "$SYS/#", false, false},
        {"home/room1/*", "home/room1/#", true, true},
        {"home/room1/*", "home/room1/+", true, true},
        {"home/room1/*", "home/#", false, true},
        {"home/room1/*", "home/+/x", false, true},
        {"home/room1/*", "garden/#", false, false},
        {"*/temp", "+/temp", true, true},
        {"*/temp", "a/#", false, true},
        {"*/temp", "+/hum", false, false},
        {"$SYS/*", "#", false, false},
        {"$SYS/*", "+/x", false, false},
        {"a/*b", "a/+", false, true},
        {"a/*b/c", "a/+", false, false},
        {"a/*b", "a", false, false},
        {"a/+", "a/+", true, true},
        {"a/+", "a/#", false, true},
        {"secret/#", "+/x", false, true},
        {"secret/#", "public/#", false, false},
    };
    const struct pattern_client client = {.facts = NULL};
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct pattern *pattern = pattern_of(PATTERN_TOPIC, rows[i].pattern);
        const struct slice filter = slice_str(rows[i].filter);
        if (pattern_covers(pattern, client, filter) != rows[i].covers ||
            pattern_overlaps(pattern, client, filter) != rows[i].overlaps)
            fail_msg("%s and %s", rows[i].pattern, rows[i].filter);
        (void)pattern_free(pattern);
    }
}

static void knows_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *network, *address;
        bool has;
    } rows[] = {
        {"10.0.0.0/8", "10.1.2.3", true},
        {"10.0.0.0/8", "10.1.2.3:1883", true},
        {"10.0.0.0/8", "11.1.2.3", false},
        {"10.0.0.0/9", "10.128.0.1", false},
        {"10.0.0.1", "10.0.0.1:5", true},
        {"10.0.0.1", "10.0.0.2:5", false},
        {"0.0.0.0/0", "1.2.3.4", true},
        {"0.0.0.0/0", "::1", false},
        {"2001:db8::/32", "[2001:db8:1::1]:1883", true},
        {"2001:db8::/32", "2001:db8:1::1", true},
        {"2001:db8::/32", "[2001:db9::1]:1883", false},
        {"10.0.0.0/8", "[::ffff:10.1.2.3]:1883", true},
        {"::ffff:10.0.0.0/104", "10.1.2.3", true},
        {"10.0.0.0/8", "/run/tidemq.sock", false},
        {"10.0.0.0/8", "", false},
        {"::/0", "unix", false},
    };
    static const char *const wrong[] = {
        "",       "10.0.0", "10.0.0.0/33", "10.0.0.0/",     "10.0.0.0/-1",
        "::/129", "a",      "10.0.0.0/8x", "10.0.0.0/1000", "1.2.3.4:5"};
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct network network;
        assert_int_equal(network_parse(slice_str(rows[i].network), &network), 0);
        const struct address address = address_parse(slice_str(rows[i].address));
        if (network_has(&network, &address) != rows[i].has)
            fail_msg("%s and %s", rows[i].network, rows[i].address);
    }
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        struct network network;
        if (network_parse(slice_str(wrong[i]), &network) != ERR_INVALID)
            fail_msg("'%s' is an address", wrong[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_what_is_no_pattern),
        cmocka_unit_test(survives_every_cut),
        cmocka_unit_test(outlives_missing_memory),
        cmocka_unit_test(matches_names),
        cmocka_unit_test(puts_variables_in),
        cmocka_unit_test(slashes_count_where_it_is_denied),
        cmocka_unit_test(long_values_do_not_match),
        cmocka_unit_test(agrees_with_every_name),
        cmocka_unit_test(knows_what_covers_and_overlaps),
        cmocka_unit_test(knows_addresses),
    };
    return cmocka_run_group_tests_name("auth/pattern", tests, NULL, NULL);
}
