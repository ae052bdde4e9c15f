// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/uuid.h"

#include <uuid/uuid.h>

namespace mirrorfs {

std::string NewUuid() {
  uuid_t uuid;
  uuid_generate_random(uuid);
  char text[37];
  uuid_unparse_lower(uuid, text);
  return text;
}

}  // namespace mirrorfs
