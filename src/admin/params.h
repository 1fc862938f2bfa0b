/* Parameters of an action, checked one by one. Each returns false when it has refused the request
 * with the error the API has for it. Private to admin. */
#pragma once

#include "admin/actions.h"

struct param_range {
    int64_t min, max, fallback; /* fallback: when the parameter is not there */
};

/* Required; may be empty only when `empty_allowed`. Borrowed as long as `params`. */
MUST_CHECK bool params_text(struct request *request, const json_t *params, const char *name,
                            bool empty_allowed, struct slice *ret_text);
/* Optional; `size_max` in characters. An empty slice without bytes when it is not there. */
MUST_CHECK bool params_optional_text(struct request *request, const json_t *params,
                                     const char *name, size_t size_max, struct slice *ret_text);
/* A number, or one written as a string, as some of the API's are. */
MUST_CHECK bool params_integer(struct request *request, const json_t *params, const char *name,
                               struct param_range range, int64_t *ret_value);
MUST_CHECK bool params_bool(struct request *request, const json_t *params, const char *name,
                            bool *ret_value);

/* The values of the filter `name` in `Filters: [{Name, Values: […]}]`; NULL when there is none.
 * `known`: the filter names the action has, NULL at the end. */
MUST_CHECK bool params_filter(struct request *request, const json_t *params,
                              const char *const *known, const char *name,
                              const json_t **ret_values);
