#!/usr/bin/env bash
# Runs a command for which programs of 32-bit ARM are programs like others: scripts/board/with-qemu-arm.sh COMMAND...
#
# The kernel asks binfmt_misc who runs them; here that is qemu-arm-static. Since Linux 6.7 each user namespace can have
# a binfmt_misc of its own, so nothing changes for anybody else, and nobody has to be root. Inside, the command is an
# ordinary user, whoever called: root's rights midge does not give up where there is a second thread, as qemu has.
set -euo pipefail

if [[ ${1:-} != --inside ]]; then
  exec unshare --user --map-root-user --mount "${BASH_SOURCE[0]}" --inside "$@"
fi
shift
binfmt=/proc/sys/fs/binfmt_misc
# How an ELF file starts: 32 bit, little-endian, of any system; it can be run (2; 3 where it may be anywhere); ARM.
magic='\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x28\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
mount -t binfmt_misc binfmt_misc "$binfmt"
printf '%s' ":qemu-arm:M::$magic:$mask:$(command -v qemu-arm-static):F" >"$binfmt/register"
exec unshare --user --map-user=1000 --map-group=1000 "$@"
