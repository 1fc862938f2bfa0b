/* Answers of etcd's gateway: a first byte that says of which kind, then the bytes. */
#include "etcd/etcd_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct etcd_answer answer;
    struct etcd_changes changes;
    const char *why = NULL;
    char text[64];
    uint64_t id = 0;
    uint32_t ttl_s = 0;
    if (size == 0)
        return 0;
    const struct slice body = slice_of(bytes + 1, size - 1);
    switch (bytes[0] % 4) {
    case 0:
        (void)!etcd_txn_read(body, &answer, &why);
        etcd_answer_done(&answer);
        break;
    case 1:
        (void)!etcd_changes_read(body, &changes, &why);
        etcd_changes_done(&changes);
        break;
    case 2:
        (void)!etcd_lease_read(body, &id, &ttl_s, &why);
        break;
    default:
        etcd_error_read(body, text, sizeof text);
    }
    return 0;
}
