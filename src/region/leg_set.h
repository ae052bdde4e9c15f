// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <bit>
#include <cstdint>

namespace mirrorfs {

// A leg's place in its mirror: given when it joins, kept in the label, and not
// given to another before all have been given. The dirty log names legs by it.
using LegSlot = int;
inline constexpr int kLegsMax = 64;

// A set of legs, by slot.
class LegSet {
 public:
  constexpr LegSet() = default;
  constexpr explicit LegSet(uint64_t bits) : bits_(bits) {}
  static constexpr LegSet Of(LegSlot slot) {
    return LegSet(uint64_t{1} << slot);
  }

  constexpr bool empty() const { return bits_ == 0; }
  constexpr int size() const { return std::popcount(bits_); }
  constexpr bool has(LegSlot slot) const { return (bits_ >> slot) & 1; }
  constexpr bool contains(LegSet other) const {
    return (other.bits_ & ~bits_) == 0;
  }
  constexpr uint64_t bits() const { return bits_; }

  // Calls visit(slot) in ascending order.
  template <typename Visit>
  void ForEach(Visit visit) const {
    for (uint64_t left = bits_; left != 0; left &= left - 1) {
      visit(std::countr_zero(left));
    }
  }

  friend constexpr bool operator==(LegSet, LegSet) = default;
  friend constexpr LegSet operator|(LegSet a, LegSet b) {
    return LegSet(a.bits_ | b.bits_);
  }
  friend constexpr LegSet operator&(LegSet a, LegSet b) {
    return LegSet(a.bits_ & b.bits_);
  }
  // Legs of `a` that are not in `b`.
  friend constexpr LegSet operator-(LegSet a, LegSet b) {
    return LegSet(a.bits_ & ~b.bits_);
  }
  constexpr LegSet& operator|=(LegSet b) { return *this = *this | b; }
  constexpr LegSet& operator-=(LegSet b) { return *this = *this - b; }

 private:
  uint64_t bits_ = 0;
};

}  // namespace mirrorfs
