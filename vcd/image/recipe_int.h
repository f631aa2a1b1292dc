// SPDX-License-Identifier: GPL-2.0-or-later
// What recipe.c lends to stage_key.c: the parts of a recipe's JSON that a key is made of. Nobody else includes it.
#ifndef VCD_IMAGE_RECIPE_INT_H
#define VCD_IMAGE_RECIPE_INT_H

#include "vcd/image/recipe.h"

// Each adds a member to obj; 0 or -1 without memory. for_key leaves out what does not decide about the content.
int recipe_base_to_json(const struct recipe *r, bool for_key, struct json_object *obj);
int recipe_files_to_json(const struct recipe *r, struct json_object *obj);
int recipe_content_to_json(const struct recipe *r, bool for_key, char *const *packages, struct json_object *obj);

#endif
