/* Any bytes as the answer of a server that is asked about a client: what it comes to is bounded,
 * and what is wrong allows nobody. The first byte chooses the status. */
#include "auth/claims.h"
#include "auth/http_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const uint32_t statuses[] = {200, 204, 500};
    if (size == 0 || size > 1 << 20)
        return 0;
    const uint32_t status = statuses[bytes[0] % ARRAY_COUNT(statuses)];
    struct http_verdict verdict;
    http_answer_parse(status, slice_of(bytes + 1, size - 1), 1000, &verdict);
    if (verdict.wrong) {
        ASSERT(verdict.result == AUTH_IGNORED);
        ASSERT(!verdict.is_superuser && verdict.acl.size == 0);
    }
    ASSERT(verdict.result == AUTH_ALLOWED || verdict.result == AUTH_BAD_CREDENTIALS ||
           verdict.result == AUTH_IGNORED);
    ASSERT(verdict.acl.size <= CLAIMS_ACL_MAX);
    ASSERT(verdict.result != AUTH_ALLOWED || verdict.expire_at_ms == 0 ||
           verdict.expire_at_ms > 1000);
    slice_done(&verdict.acl);
    return 0;
}
