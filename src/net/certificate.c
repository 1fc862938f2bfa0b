#include "net/certificate.h"

#include "base/mem.h"

struct certificate *certificate_free(struct certificate *certificate)
{
    if (!certificate)
        return NULL;
    struct certificate_subject *subject = &certificate->subject;
    mem_free(subject->common_name);
    mem_free(subject->organization);
    mem_free(subject->organizational_unit);
    mem_free(subject->country);
    mem_free(subject->state);
    mem_free(subject->serial_number);
    mem_free(certificate->subject_text);
    mem_free(certificate->issuer_text);
    mem_free(certificate->serial);
    (void)buf_unref(certificate->der);
    mem_free(certificate);
    return NULL;
}
