# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests stand on. Nothing here uses mirrorfs to judge mirrorfs."""
