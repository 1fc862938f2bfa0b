/* The patterns that make a server keep many things: sessions, filters, retained messages. Their
 * clients, filters and topics are numbered. */
#pragma once
#include "pattern.h"

/* Makes connections one after the other, some at a time: for PATTERN_CONNECT as they are, for
 * PATTERN_SESSIONS each with a session and a filter of its own, which stay behind. */
void pattern_many_connect(struct gen *gen, struct pattern_result *result);

void pattern_many_filters(struct gen *gen, struct pattern_result *result);
void pattern_many_retained(struct gen *gen, struct pattern_result *result);
