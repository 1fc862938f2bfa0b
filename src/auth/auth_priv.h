/* What the files of auth/ share. Private to auth/. */
#pragma once

#include "auth/identity.h"

#define AUTH_CHAIN_MAX 8u

/* The authenticators in force, in order; unchanged once made. */
struct auth_chain {
    uint32_t refs; /* auth's, and one for each question under way */
    uint32_t count;
    uint32_t asked_for; /* those that the configuration wants; the others are there in case */
    struct authenticator *items[AUTH_CHAIN_MAX];
};

struct http_client;
struct question;

struct auth {
    struct auth_deps deps;
    bool anonymous;
    uint32_t waiting, waiting_max; /* questions under way */
    struct auth_chain *chain;
    struct http_client *http; /* NULL until something asks over HTTP */
    struct list questions;
    struct question *answered; /* whose answer its asker may still read; or NULL */
    struct identities identities;
};
