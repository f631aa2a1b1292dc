// SPDX-License-Identifier: GPL-2.0-or-later
// The text form of a recipe, vcluster-recipe(5), read in the client with the user's own rights.
//
// Files that the recipe names are read here, so that nobody else ever opens a path of the user's. Errors name
// the recipe's file and line.
#ifndef VCD_IMAGE_RECIPE_CONF_H
#define VCD_IMAGE_RECIPE_CONF_H

#include "vcd/image/recipe.h"

int recipe_parse_file(const char *path, struct recipe **ret, struct vc_error *err);

#endif
