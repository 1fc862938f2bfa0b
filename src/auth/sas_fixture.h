/* Tokens signed by Python's hmac with the key of bytes 0 to 31, for tests. */
#pragma once

#define TEST_SAS_DEVICE                                                                            \
    "SharedAccessSignature "                                                                       \
    "sr=devices%2Fsensor-1&sig=Ra7gVn649v9D9BOlUMoeAZteU%2FdOpDir7bz4CoIzKAQ%3D&se=2000000000"
#define TEST_SAS_HOST                                                                              \
    "SharedAccessSignature "                                                                       \
    "sr=host.example%2Fdevices%2Fa%2Fb%20%25&sig=Z8lA%2Fk1Ek9DIBya%2FqJV%2F4c%2Bjmr%"              \
    "2FXT3kDQ0p8s5m5MH0%3D&se=2000000000"
