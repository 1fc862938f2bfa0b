/* Keys and tokens made by PyJWT and the Python package cryptography, for tests. */
#pragma once

#define TEST_SECRET "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define TEST_PEM_RSA                                                                               \
    "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAv5AM5YHzGPz1W"        \
    "bUrfqmC\n1iOlkWsxoICDcPVTXjebHYk5At6+qpJ1P0bdEVHhxelsuXO3h3ghMPg7jrRwu7mw\n9WKPVWk/of3"       \
    "iYmZs2Kx1fWQ0e/2H+vam/w1LhQvCBBJU2iyy9NVbyvSGHYWxR/8n\nRzoIt5/JkdxzqFcsDjGSCLauwbIIGp"        \
    "S6v2CZm3mrPwWSZzPxRQig1wWc+WzX6BuZ\nzHX9GMvE89c4vRimopJh7N8VfM8uA/bJNHSM1oxLeXpvYNJqY"        \
    "IxpZTnviWRrOBg1\n/jMgvrymOdVGHnhH6HEunCb3umPesUpQA6IaeXq4TRTAuNklcgCqvNOpMrDGOUXd\nAwI"       \
    "DAQAB\n-----END PUBLIC KEY-----\n"
#define TEST_JWK_RSA                                                                               \
    "{\"kty\": \"RSA\", \"n\": \"v5AM5YHzGPz1WbUrfqmC1iOlkWsxoICDcPVTXjebHYk5At6-qpJ1P0bdEVHhxel"  \
    "suXO3h3ghMPg7jrRwu7mw9WKPVWk_of3iYmZs2Kx1fWQ0e_2H-vam_w1LhQvCBBJU2iyy9NVbyvSGHYWxR_8"         \
    "nRzoIt5_JkdxzqFcsDjGSCLauwbIIGpS6v2CZm3mrPwWSZzPxRQig1wWc-WzX6BuZzHX9GMvE89c4vRimopJ"         \
    "h7N8VfM8uA_bJNHSM1oxLeXpvYNJqYIxpZTnviWRrOBg1_jMgvrymOdVGHnhH6HEunCb3umPesUpQA6IaeXq"         \
    "4TRTAuNklcgCqvNOpMrDGOUXdAw\", \"e\": \"AQAB\", \"kid\": \"RSA\"}"
#define TEST_PEM_RSA_SMALL                                                                         \
    "-----BEGIN PUBLIC KEY-----\nMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDJHJ7nbvYDWpOxFpqaf"        \
    "dTd2kip\nrE4BJGuHExsSa5jbgSPBJeTlpIG5L85rpj3S4yhP0rNq0I/rKG+WF1M5ZkZfl3hq\nAD7Mvp3lc2R"       \
    "YAFVBVtCXMUNt8hiYb+CzFYKsbyZ33tYvtPAewN7+T1D8m1vbo6sB\ndLITpfx2fsAIVHiZIwIDAQAB\n-----"       \
    "END PUBLIC KEY-----\n"
#define TEST_PEM_P256                                                                              \
    "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEHMyvwsu6T3np/fJcOjUNS"        \
    "Hb5zLRb\nFJKLuIxUigNulW2LJNl42ECG3pL6R/5ZUtT9SBoaP+fQu76wureN1mCGXg==\n-----END PUBLIC"       \
    " KEY-----\n"
#define TEST_JWK_P256                                                                              \
    "{\"kty\": \"EC\", \"crv\": \"P-256\", \"x\": "                                                \
    "\"HMyvwsu6T3np_fJcOjUNSHb5zLRbFJKLuIxUigNulW0\", \"y"                                         \
    "\": \"iyTZeNhAht6S-kf-WVLU_UgaGj_n0Lu-sLq3jdZghl4\", \"kid\": \"P256\"}"
#define TEST_PEM_P384                                                                              \
    "-----BEGIN PUBLIC KEY-----\nMHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEz/nVO2GhIWTkMS8+ufBD6xIJs"        \
    "R0JeO2s\nGUY9Y0bzXtLcX0n/7A/DJ/uwsIa3uiSpAVONx/6x1NPcQgZ1mS5c1up9BeG/cZRP\nUiMY7rYuomV"       \
    "dMt7URBnMFNawxh4wvzJZ\n-----END PUBLIC KEY-----\n"
#define TEST_JWK_P384                                                                              \
    "{\"kty\": \"EC\", \"crv\": \"P-384\", \"x\": "                                                \
    "\"z_nVO2GhIWTkMS8-ufBD6xIJsR0JeO2sGUY9Y0bzXtLcX0n_"                                           \
    "7A_DJ_uwsIa3uiSp\", \"y\": \"AVONx_6x1NPcQgZ1mS5c1up9BeG_cZRPUiMY7rYuomVdMt7URBnMFNawxh4"     \
    "wvzJZ\", \"kid\": \"P384\"}"
#define TEST_PEM_P521                                                                              \
    "-----BEGIN PUBLIC KEY-----\nMIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQB6Le1VqTGcbkm5pRLUzv7l"        \
    "AATOyeC\n2ry1YrSWdqs++pzwa98ByTRhKlwedcwobMwglyfFpbR8tIyySo7zzT9fAoUArFAW\ndXsPSGyTrPJ"       \
    "9SL+ZbmAKiE6x9msPJBjPflkmcWWZWt34lXzsHybQKj0ztyQGCaBf\nreFeEccPDHstqSN5Ivw=\n-----END "       \
    "PUBLIC KEY-----\n"
#define TEST_JWK_P521                                                                              \
    "{\"kty\": \"EC\", \"crv\": \"P-521\", \"x\": "                                                \
    "\"Aei3tVakxnG5JuaUS1M7-5QAEzsngtq8tWK0lnarPvqc8Gvf"                                           \
    "Ack0YSpcHnXMKGzMIJcnxaW0fLSMskqO880_XwKF\", \"y\": \"AKxQFnV7D0hsk6zyfUi_mW5gCohOsfZrDyQ"     \
    "Yz35ZJnFlmVrd-JV87B8m0Co9M7ckBgmgX63hXhHHDwx7LakjeSL8\", \"kid\": \"P521\"}"
#define TEST_PEM_ED25519                                                                           \
    "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAuHDXGoYbo/xuYjlF8/JDir8xCIyWsSS37JF/eunZh"        \
    "dE=\n-----END PUBLIC KEY-----\n"
#define TEST_JWK_ED25519                                                                           \
    "{\"x\": \"uHDXGoYbo_xuYjlF8_JDir8xCIyWsSS37JF_eunZhdE\", \"kty\": \"OKP\", \"crv\": "         \
    "\"Ed25519\","                                                                                 \
    " \"kid\": \"ED25519\"}"
#define TEST_TOKEN_HS256                                                                           \
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJzZW5zb3ItMSJ9.xZf5YXNlYU9gk8P5lnZk16"         \
    "VWjJgtz_hO0_6lbtJ11WY"
#define TEST_TOKEN_HS384                                                                           \
    "eyJhbGciOiJIUzM4NCIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJzZW5zb3ItMSJ9.3yNbh-bju6pJUfaw-XD1Jw"         \
    "8ZHZhnPPF_RvOL4IaSHNihIHRooL3L4fL8rqMgZjol"
#define TEST_TOKEN_HS512                                                                           \
    "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJzZW5zb3ItMSJ9.hoQwDwBm2zZVlhJ9PgOWvZ"         \
    "xLxzhnfnq4UTVZ_dO4cAtpQUq6c2IfQIChcRdM4utTmRPO-651fwpS0PqfFbhMOQ"
#define TEST_TOKEN_RS256                                                                           \
    "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJzZW5zb3ItMSJ9.ENt9iMp_eCWomxNkWUMu7V"         \
    "y0QOu8i1WvfQhdkEqyfbP54vDqNBy9hmFlKLItH4wCMKZ25R2SNYNya6kuZFZa-jtrcV4HEs_YM_USK4pmpE"         \
    "6w8wENLPvtkOazaHWqPyMfCCuKxrYRxqrkfxzBU6zE8tKbPwQoyo_VAhd8TvBWOPFFsQgKZZ57y-2Xx5awLp"         \
    "3Dk0cW8HLHZpkjAxUGluu3QssYWUlVF-vvM5i9i6KQV-i1hZXhbGiY15vcPuk1o4P5a_P9eOuwKsd1pa0oFG"         \
    "0fZK5SE1g1ibRXHkFx0EhnLShulX6b3cXjDVpSMkBhnBqlK4iVx2ndtrsqs8_Fv3YdKA"
#define TEST_TOKEN_RS384                                                                           \
    "eyJhbGciOiJSUzM4NCIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJzZW5zb3ItMSJ9.BFetV4IjXAGdkCx58Z61Vk"         \
    "f9_gCi3ZnBQGTAxTRxftYy4avO5Zk_k4o2ZUH2lrNLwYd5dPp-57JTTwFjUafkUEWC9E4Y3mnQQGncSltw2-"         \
    "dbKMg6IFygRLuaKh23EYkz7PmzEc0Wa3BMxYUPE19hc7d4aAtUtO2y21X8nWcv0IPk9jz2SF-Y1MRLsLW9_a"         \
    "8YsE6n9O3x3mgIfd_XCE2b5gMreft93uMbqiH_gJ2xReRq1CS6fcI7caKBN0ESDNPZRqLrAzPlggRiuUIDHH"         \
    "FLnYaVuHKL4onBFBzS6ouWRSufcQXzl1rzUmjQOoQigNycmsX6OKm9byalk1Vyvob7wA"
#define TEST_TOKEN_RS512                                                                           \
    "eyJhbGciOiJSUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJzZW5zb3ItMSJ9.o35PzlR0b_LEnN0SLsS7OR"         \
    "EkqjC1zqHyRU5cmuviKb7evzgGT1QQ9jTivPU9HCXLgkF-3Iy5_zOuaBuoXgJpJBJBmuUeaJmiez2qPhx4Tl"         \
    "8dUmMD1K7E8jPwX3RDCTitgReGv2xe6zSOjP0ja5Ll9uYKcustPXmchdGaovUWTzg7HsbMAo8yCzUliY791y"         \
    "kAuNun2L4LSD_CM25fYqMR_74SVP7a7tBj5gNE6fgMTz8hMKNpszqjF5qRJ05TsPKxkdAKYbB_-G8fmJZ9Sl"         \
    "yNxErioSKV_ZKFgjHFSf1S5pnVQF4veILGx7JaoF_kG4HJ4MglBpazykTBKQrjmxDHrQ"
#define TEST_TOKEN_PS256                                                                           \
    "eyJhbGciOiJQUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJzZW5zb3ItMSJ9.eHBfuBneyh3Ieyi_u0ngFh"         \
    "8dMZSTygrk8AdRjx4JPVIMMcbDsyxbOHaL21rspDF1LcFSYbd_Xi2nWKQOEXKlHDEpPoI_C3Z1z_jK7gytmK"         \
    "xv63QOkCBjE80Y09s0FA70rSIdn5QOt9RNkoMq9gWeYB0HCRXW7yvgA2gTaoCh5jiSUkbXWTLiJV6_SpQLBu"         \
    "TXKD5yt8PEgtFD2R98Ec_SRuMPlCkDPSv4qB1FBjEX7lxkOLKeAjAT2SreX7eX3-l2l7h_NTqoSl5wErOmzn"         \
    "-4VMiPVhCjHBZ8d_2GBIosMdjyeU6DYzzBp3lQ2Q-cSs-xTkmUO-ptlpJaVtZR9xIK_A"
#define TEST_TOKEN_PS384                                                                           \
    "eyJhbGciOiJQUzM4NCIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJzZW5zb3ItMSJ9.SfRzqMXKHhxKSnInSqN9ST"         \
    "F5ejWzN860_jFd1isfNhBesmhNZ8VPx3_YWYyEtO0xXIxu0iCbnfFKYdrqbyxs92ifD7I0NH4SmEHcZOL6M2"         \
    "8czxkTrjNoUktowJhWPhi7uQYBKU4HsM8VhO2VTHajgTt0_QWYwQiW9O964ZSszpljsu_ObEcqw6rDYJBgG3"         \
    "kIIlJ5leGwhZnKH8i1FC3ZipZ7gELRI2JDllcD--BvLbvbyjXLxgkO5sMJfSTNXtzaTknBhBfDJb6IvX6P-m"         \
    "Iw2ftWwcoiv377D5NIxunSC6-UxbYI-p4pdi5fydDToHILOf7tSVmGPGsYJNhmN3Za-A"
#define TEST_TOKEN_PS512                                                                           \
    "eyJhbGciOiJQUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJzZW5zb3ItMSJ9.lZxVb8owImMAw7sqnEb4df"         \
    "9qTRf8nVlKxdNAtyS2q-mHWXPbsV1SD1WbUWtP1C80y_YHLktk0_97KL7kerCl_DZqhTNbLTxh7LSxmibVlT"         \
    "Ai7gWRojD_hgpJFcnhXyxnhSMVEdtJcUFIsSGply-m_FGfmYMPwp0ieNlPYKD8DjZPnIbEnccBOZuX98CUCh"         \
    "fAhtXGm0QkqMNiiJ5S-kao7F5joHvsN67FSOyq4kXGi0yBhyIuCAmtkxtaTgGUTw-Q1Sn2_cu52XyjI4G19z"         \
    "1LCIdeb3_I2NOqajeZ4nWzFzNCUPQH44IWlrdah9tnazcJR0LzySJEA8QZmyIgQONS3A"
#define TEST_TOKEN_ES256                                                                           \
    "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJzZW5zb3ItMSJ9.2nix67Z1uJFVc1Rz8L4zMl"         \
    "HbgZrkGijpIlGpaTGfqgdbuEUDUIZ06oUKe1UG_TJ2AmKxObJbGIqYtQrWB5cA4w"
#define TEST_TOKEN_ES384                                                                           \
    "eyJhbGciOiJFUzM4NCIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJzZW5zb3ItMSJ9.kXWfYf1Wie2-Zj4hzDic-J"         \
    "4Vt7VQcieU1dLlDIqk_m-gv0lJOS7OKLI362CEzw4VOIt5_5wNEpfWzoJuGx0zBrIPK2jX-JQ6vEafTGY-4M"         \
    "hq8AlPUB_CkIRLaVtBuKYH"
#define TEST_TOKEN_ES512                                                                           \
    "eyJhbGciOiJFUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJzZW5zb3ItMSJ9.APzu9ky_XkIEqJVldFRE8L"         \
    "bN4oYIDvo5aZBum02sNEh7KTinznxFBOMe4R0fpQCDmnGoDIqVJGDy--fh-F4iBXrhALzJylcvBLlWolES8E"         \
    "6nuyaLRX3jXDRaQZN4UVXqGyd6VkvSz9sFsxu86hpb6Gg7sSEz0IaH3oJMjb9LNSS3W8Mc"
#define TEST_TOKEN_EDDSA                                                                           \
    "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJzZW5zb3ItMSJ9.xFHShUVsanblJQdajy-Frn"         \
    "ZEOr1G6eOs0zn2mMqdLymg9hpwiqUtAymb3S7k66w4-MRJsCTipOYrlB2xctYzCA"
#define TEST_TOKEN_KID                                                                             \
    "eyJhbGciOiJFUzI1NiIsImtpZCI6IlAyNTYiLCJ0eXAiOiJKV1QifQ.eyJzdWIiOiJzZW5zb3ItMSJ9.sota"         \
    "9nbwb60sKZ-fYx6mF2OxizLI_sdOH_in0Vyf-K-00pz1FkSecCMLIq-wZK1IVBaLUOCakOmNdwzMAf1d7w"
#define TEST_TOKEN_OTHER_KID                                                                       \
    "eyJhbGciOiJFUzI1NiIsImtpZCI6Im90aGVyIiwidHlwIjoiSldUIn0.eyJzdWIiOiJzZW5zb3ItMSJ9.dOj"         \
    "na3xNfFefmp8vNuvzhAKiXLp16WbLF_uJSVJT8MivHTV-Au2aleBw2X2WF5wVksx4jMvrEsmq8udfdhvPqQ"
#define TEST_TOKEN_CRIT                                                                            \
    "eyJhbGciOiJIUzI1NiIsImNyaXQiOlsiZXhwIl0sInR5cCI6IkpXVCJ9.eyJzdWIiOiJzZW5zb3ItMSJ9.S7"         \
    "6ZR4mNbIBXvIH0kb3Fmk5RKpiApmxBjuqaKjaMY6I"
#define TEST_TOKEN_NONE "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJzZW5zb3ItMSJ9."
#define TEST_TOKEN_CONFUSED                                                                        \
    "eyJhbGciOiAiSFMyNTYiLCAidHlwIjogIkpXVCJ9.eyJzdWIiOiAic2Vuc29yLTEifQ.ezYZa1xQY2olgTZ4"         \
    "ZqHDMQBzCQO9NH_qrYAu7Telbjo"
#define TEST_TOKEN_CONFUSED_DER                                                                    \
    "eyJhbGciOiAiSFMyNTYiLCAidHlwIjogIkpXVCJ9.eyJzdWIiOiAic2Vuc29yLTEifQ.1C4AEetwnXnYrm3I"         \
    "D0T6sVZZNNxRnENYQ1JQN0OXRPw"
#define TEST_TOKEN_OWN_JWK                                                                         \
    "eyJhbGciOiJFUzI1NiIsImp3ayI6eyJjcnYiOiJQLTI1NiIsImt0eSI6IkVDIiwieCI6IllBcFNmRTA2RzRs"         \
    "RlhnWF9lYmhleUtONUM1eTU4VVVzS3JkZlVNcGhyTHMiLCJ5IjoidTlXRjJVNU15SDJld0ZvWGkyRVdBb3Jq"         \
    "WHhhNmNUb1pISlBOX0puMk5rTSJ9LCJ0eXAiOiJKV1QifQ.eyJzdWIiOiJzZW5zb3ItMSJ9.3cnMsroruHRJ"         \
    "r9F-Vi7vLJzNtUw_djmupl3sEYOQ2xuQPlUREYdWA4E42iY0IRTzOuG7zDYnGlIK-45dvwPI3A"
#define TEST_TOKEN_LIST_BODY "eyJhbGciOiJIUzI1NiJ9.WzFd.mjcM1JtbMgJUCcanuBQNEqIDjYpWFm0b3Bv8glUylJw"
#define TEST_TOKEN_TWICE                                                                           \
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIiwic3ViIjoiYiJ9.vABI-hr7HbBUJKdqtlfhTATL7aKSAiF22p"         \
    "NWQs028fc"
#define TEST_TOKEN_ALG_NUMBER "eyJhbGciOjF9.e30.AfveP8SOm66NKxazwFtwsMeiAsadHYfVXO8uxh1ynr4"
#define TEST_TOKEN_KID_NUMBER                                                                      \
    "eyJhbGciOiJIUzI1NiIsImtpZCI6MX0.e30.tQwlnJRyFcGrBfr5iu5wfLQTXzhzOUto9IVzyTtB61E"
#define TEST_TOKEN_EMPTY_SECRET                                                                    \
    "eyJhbGciOiAiSFMyNTYiLCAidHlwIjogIkpXVCJ9.eyJzdWIiOiAic2Vuc29yLTEifQ.pggK3iBDCyO7Z3cR"         \
    "6iczSjz_UdCjM2F7o4R9bXl2FUM"
#define TEST_TOKEN_SHORT_MAC "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJzZW5zb3ItMSJ9.eA"
#define TEST_TOKEN_NO_MAC    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJzZW5zb3ItMSJ9."
