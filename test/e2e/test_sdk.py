"""The product's own SDK (tencentcloud-sdk-python-mqtt) against the actions of the admin API.

It signs its requests; here the token stands where the signature would be. It puts what it is answered
into its own models, by name, so a field that we spell otherwise is missing here.
"""

import forge
import pytest
from forge import Holder
from pki import shared
from tencentcloud.common.credential import Credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.mqtt.v20240516 import models
from tencentcloud.mqtt.v20240516.mqtt_client import MqttClient
from test_registry_refusals import assert_comes_in, make_ca
from test_tls import tls_keys


OWN_LISTENERS = True


class Sdk(MqttClient):
    """The SDK with our token; its calls by name, with their parameters."""

    def __init__(self, server):
        where = HttpProfile(protocol="http", endpoint=server.admin_url.removeprefix("http://"))
        super().__init__(Credential("id", "key"), "", ClientProfile(httpProfile=where))
        self.server = server

    def _build_req_with_tc3_signature(self, action, params, req, options=None):
        super()._build_req_with_tc3_signature(action, params, req, options)
        req.header["Authorization"] = f"Bearer {self.server.token}"

    def do(self, action, **params):
        """One call; returns the SDK's model of the answer."""
        request = getattr(models, f"{action}Request")()
        request._deserialize({"InstanceId": self.server.instance_id(), **params})
        return getattr(self, action)(request)

    def fail(self, action, **params):
        """One call that fails; returns the code."""
        with pytest.raises(TencentCloudSDKException) as caught:
            self.do(action, **params)
        assert caught.value.get_request_id() and caught.value.get_message()
        return caught.value.get_code()


@pytest.fixture(name="server", scope="module")
def fixture_server(make_server_module):
    """One where only registered certificates come in."""
    return make_server_module(**tls_keys(shared(), **{"auth.anonymous": False, "auth.x509.mode": "registered"}))


@pytest.fixture(name="sdk", scope="module")
def fixture_sdk(server):
    """Its SDK."""
    return Sdk(server)


def register_ca(sdk, ca):
    """Everything that the product's documentation asks for; returns the number."""
    code = sdk.do("ApplyRegistrationCode").RegistrationCode
    answer = sdk.do("RegisterCaCertificate", CaCertificate=forge.pem(ca.der), Format="PEM", Status="ACTIVE",
                    VerificationCertificate=forge.pem(Holder(code, ca).der))
    assert answer.InstanceId == sdk.server.instance_id() and answer.RequestId
    return answer.CaSn


def test_cas(sdk):
    """Registered, listed, described, switched off and on, removed."""
    ca = make_ca("SDK CA")
    assert sdk.fail("RegisterCaCertificate", CaCertificate=forge.pem(ca.der), VerificationCertificate=forge.pem(
        Holder("no code", ca).der)).startswith("FailedOperation.")
    sn = register_ca(sdk, ca)
    listed = [item for item in sdk.do("DescribeCaCertificates").Data if item.CaSn == sn]
    assert len(listed) == 1 and "BEGIN CERTIFICATE" in listed[0].VerificationCertificate
    for row in (listed[0], sdk.do("DescribeCaCertificate", CaSn=sn)):
        assert (row.CaCn, row.CaIssuerCn, row.Status, row.Format) == ("SDK CA", "SDK CA", "ACTIVE", "PEM")
        assert row.CaCertificate.strip() == forge.pem(ca.der).strip()
        assert row.NotBeforeTime < row.CreatedTime < row.NotAfterTime
        assert row.CreatedTime == row.LastActivationTime == row.UpdateTime and row.LastInactivationTime == 0
    sdk.do("DeactivateCaCertificate", CaSn=sn)
    row = sdk.do("DescribeCaCertificate", CaSn=sn)
    assert row.Status == "INACTIVE" and row.LastInactivationTime >= row.LastActivationTime
    sdk.do("ActivateCaCertificate", CaSn=sn)
    assert sdk.do("DescribeCaCertificate", CaSn=sn).Status == "ACTIVE"
    sdk.do("DeleteCaCertificate", CaSn=sn)
    for action in ("Describe", "Activate", "Deactivate", "Delete"):
        assert sdk.fail(f"{action}CaCertificate", CaSn=sn) == "ResourceNotFound.Ca"
    assert sdk.do("DescribeInstance").X509Mode == "BYOC"


def test_device_certificates(sdk, server):
    """The whole life of one; it comes in while it is active."""
    ca = make_ca("SDK CA of devices")
    ca_sn = register_ca(sdk, ca)
    holder = Holder("sdk-device", ca, subject=forge.name((forge.COMMON_NAME, "sdk-device"), ("2.5.4.11", "Unit")))
    made = sdk.do("RegisterDeviceCertificate", DeviceCertificate=forge.pem(holder.der), CaSn=ca_sn, ClientId="d",
                  Format="PEM", Status="ACTIVE")
    sn = {"DeviceCertificateSn": made.DeviceCertificateSn}
    assert (made.InstanceId, made.CaSn) == (server.instance_id(), ca_sn)
    assert sdk.fail("RegisterDeviceCertificate", DeviceCertificate=forge.pem(holder.der), CaSn=ca_sn) == (
        "UnsupportedOperation.ResourceAlreadyExists")
    assert_comes_in(server, holder, "d")
    filters = [{"Name": "CaSn", "Values": [ca_sn]}, {"Name": "Status", "Values": ["ACTIVE"]}]
    listed = sdk.do("DescribeDeviceCertificates", Filters=filters, Offset=0, Limit=10, OrderBy="CREATE_TIME_DESC")
    assert listed.TotalCount == len(listed.Data) == 1
    for row in (listed.Data[0], sdk.do("DescribeDeviceCertificate", **sn)):
        assert (row.ClientId, row.DeviceCertificateCn, row.OrganizationalUnit) == ("d", "sdk-device", "Unit")
        assert (row.CaSn, row.DeviceCertificateSn) == (ca_sn, made.DeviceCertificateSn)
        assert (row.Status, row.Format, row.CertificateSource) == ("ACTIVE", "PEM", "API")
        assert row.DeviceCertificate.strip() == forge.pem(holder.der).strip()
        assert row.NotBeforeTime < row.CreatedTime == row.UpdateTime == row.LastActivationTime < row.NotAfterTime
        assert row.LastInactivationTime == 0
    sdk.do("DeactivateDeviceCertificate", **sn)
    assert sdk.do("DescribeDeviceCertificate", **sn).Status == "INACTIVE"
    sdk.do("ActivateDeviceCertificate", **sn)
    assert_comes_in(server, holder, "d")
    assert sdk.fail("DeleteCaCertificate", CaSn=ca_sn) == "FailedOperation.RelatedDeviceCertificateExists"
    sdk.do("RevokedDeviceCertificate", **sn)
    assert sdk.do("DescribeDeviceCertificate", **sn).Status == "REVOKED"
    assert sdk.fail("ActivateDeviceCertificate", **sn) == "OperationDenied"
    sdk.do("DeleteDeviceCertificate", **sn)
    assert sdk.fail("DescribeDeviceCertificate", **sn) == "ResourceNotFound.Certificate"
    sdk.do("DeleteCaCertificate", CaSn=ca_sn)


def test_order_of_policies(sdk):
    """UpdateAuthorizationPolicyPriority, by the SDK's own types."""
    made = {}
    for priority, (name, effect) in enumerate((("first", "allow"), ("second", "deny")), 1):
        made[name] = sdk.do("CreateAuthorizationPolicy", PolicyName=name, PolicyVersion=1, Priority=priority,
                            Effect=effect, Actions="pub,sub", Resources="a/#", Retain=3, Qos="0,1,2").Id

    def order():
        return [(row.PolicyName, row.Priority) for row in sdk.do("DescribeAuthorizationPolicies").Data]

    def change(*pairs, call=sdk.do):
        return call("UpdateAuthorizationPolicyPriority", Priorities=[
            {"Id": policy, "Priority": priority} for policy, priority in pairs])

    assert order() == [("first", 1), ("second", 2)]
    change((made["first"], 2), (made["second"], 1))
    assert order() == [("second", 1), ("first", 2)]
    assert change((made["first"], 1), call=sdk.fail) == "FailedOperation.DuplicateAuthorizationIdOrPriority"
    assert change((999, 5), call=sdk.fail) == "ResourceNotFound.AuthorizationPolicy"
    assert change((made["first"], 0), call=sdk.fail) in ("InvalidParameterValue", "MissingParameter")
    assert sdk.fail("UpdateAuthorizationPolicyPriority") == "MissingParameter"
    assert order() == [("second", 1), ("first", 2)]


def test_a_stranger(server):
    """With a signature that nobody checks, and no token: refused, not an empty success."""
    profile = ClientProfile(httpProfile=HttpProfile(protocol="http", endpoint=server.admin_url[7:]))
    client = MqttClient(Credential("id", "key"), "", profile)
    with pytest.raises(TencentCloudSDKException) as caught:
        client.DescribeInstanceList(models.DescribeInstanceListRequest())
    assert "AuthFailure" in str(caught.value)
