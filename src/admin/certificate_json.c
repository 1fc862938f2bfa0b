#include "admin/certificate_json.h"

#include "base/mem.h"

#include <ctype.h>
#include <string.h>

void serial_read(struct slice text, struct serial *ret_serial)
{
    size_t size = 0;
    for (uint32_t i = 0; i < text.size && size < RECORD_NAME_MAX; i++) {
        if (text.bytes[i] != ':') {
            ret_serial->text[size++] = (char)toupper(text.bytes[i]);
        }
    }
    ret_serial->text[size] = '\0';
    while (size > 2 && strncmp(ret_serial->text, "00", 2) == 0) {
        size -= 2;
        memmove(ret_serial->text, ret_serial->text + 2, size + 1);
    }
}

struct slice serial_slice(const struct serial *serial)
{
    return slice_str(serial->text);
}

static void set_number(json_t *object, const char *name, uint64_t value)
{
    (void)json_object_set_new(object, name, json_integer((json_int_t)MIN(value, INT64_MAX)));
}

static void set_text(json_t *object, const char *name, const char *text)
{
    (void)json_object_set_new(object, name, json_string(text ? text : ""));
}

static void set_pem(json_t *object, const char *name, struct slice der)
{
    char *pem = registry_pem(der);
    set_text(object, name, pem);
    mem_free(pem);
}

static void set_times(json_t *object, const struct registry_times *times, int64_t not_before_s,
                      int64_t not_after_s)
{
    set_number(object, "CreatedTime", times->created_ms);
    set_number(object, "UpdateTime", times->changed_ms);
    set_number(object, "LastActivationTime", times->activated_ms);
    set_number(object, "LastInactivationTime", times->deactivated_ms);
    set_number(object, "NotBeforeTime", (uint64_t)MAX(not_before_s, 0) * 1000);
    set_number(object, "NotAfterTime", (uint64_t)MAX(not_after_s, 0) * 1000);
}

static struct slice der_of(const struct certificate *certificate)
{
    return slice_of(buf_bytes(certificate->der), buf_size(certificate->der));
}

json_t *registry_ca_json(const struct registry_ca *ca)
{
    const struct certificate *certificate = ca->certificate;
    char *issuer = registry_issuer_of(ca);
    json_t *row = json_object();
    (void)json_object_set_new(row, "CaSn", request_json_text(ca->record.name));
    set_text(row, "CaCn", certificate->subject.common_name);
    set_text(row, "CaIssuerCn", issuer);
    set_text(row, "Status", registry_state_text(ca->state));
    set_text(row, "Format", "PEM");
    set_pem(row, "CaCertificate", der_of(certificate));
    set_pem(row, "VerificationCertificate", der_of(ca->verification));
    set_times(row, &ca->times, certificate->not_before_s, certificate->not_after_s);
    mem_free(issuer);
    return row;
}

json_t *registry_certificate_json(const struct registry_certificate *certificate)
{
    json_t *row = json_object();
    (void)json_object_set_new(row, "DeviceCertificateSn",
                              request_json_text(certificate->record.name));
    (void)json_object_set_new(row, "DeviceCertificateCn",
                              request_json_text(certificate->common_name));
    (void)json_object_set_new(row, "OrganizationalUnit", request_json_text(certificate->unit));
    (void)json_object_set_new(row, "CaSn", request_json_text(certificate->ca_sn));
    (void)json_object_set_new(row, "ClientId", request_json_text(certificate->client_id));
    set_text(row, "Status", registry_state_text(certificate->state));
    set_text(row, "CertificateSource", certificate->came_by_itself ? "JITP" : "API");
    set_text(row, "Format", "PEM");
    set_pem(row, "DeviceCertificate", certificate->der);
    set_times(row, &certificate->times, certificate->not_before_s, certificate->not_after_s);
    return row;
}
