/* The server's certificates over time: read again when their files change, and reminded of before
 * they expire.
 *
 * Thread: the loop's.
 */
#pragma once

struct server;

/* Begins with both. Watching files may fail, which is logged: SIGHUP still reads them. */
void certificates_start(struct server *server);
void certificates_stop(struct server *server);
/* They have been read anew, perhaps from other files. */
void certificates_changed(struct server *server);
