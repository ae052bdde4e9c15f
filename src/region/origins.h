// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "region/leg_set.h"

namespace mirrorfs {

// Where legs that missed the renaming of an object have it still, as paths on
// those legs: so that it is renamed there and not copied. No more than a hint.
// It is checked before it is used, and without it the object is copied.
class Origins {
 public:
  bool empty() const { return places_.empty(); }
  LegSet legs() const;
  // Null: not known to be elsewhere.
  const std::string* Of(LegSlot leg) const;
  // Instead of what was said of `leg`.
  void Set(LegSlot leg, absl::string_view path);
  // Nothing is said of other legs than these any more.
  void Keep(LegSet legs);
  // Legs that have it at `path` have it nowhere else.
  void Forget(absl::string_view path);

  // Calls visit(path, legs), in order of path.
  template <typename Visit>
  void ForEach(Visit visit) const {
    for (const auto& [path, legs] : places_) visit(path, legs);
  }

  friend bool operator==(const Origins&, const Origins&) = default;

 private:
  // Sorted, each leg at one path at most; few, and mostly none.
  std::vector<std::pair<std::string, LegSet>> places_;
};

// Where two places are said of one leg it is the one that sorts first: any will
// do, but it has to be the same one each time.
Origins Merge(const Origins& a, const Origins& b);

// For each place: the legs (8 bytes), the length of the path (2), the path;
// little endian.
void AppendOrigins(const Origins& origins, std::string& out);
std::optional<Origins> ParseOrigins(absl::string_view bytes);

}  // namespace mirrorfs
