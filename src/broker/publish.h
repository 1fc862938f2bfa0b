/* What a session's table of inbound packet identifiers holds beside a pending struct publish. */
#pragma once

/* QoS 2: stored, PUBREC sent or owed; its release is being made durable. */
#define INBOUND_RECEIVED  ((void *)(uintptr_t)1)
#define INBOUND_RELEASING ((void *)(uintptr_t)2)
