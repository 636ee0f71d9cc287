# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# QEMU's arguments for the guest that tools/lab/guest was told to boot, whose
# variables these read. Sourced.
# shellcheck disable=SC2154

# kvm_works: whether a guest with our kernel really boots with KVM. /dev/kvm can
# be there and hang, so one boot is tried, once for each boot of this machine.
kvm_works() {
	local answer
	[ -w /dev/kvm ] || return 1
	answer=$CACHE/kvm-$(cat /proc/sys/kernel/random/boot_id)
	if [ ! -e "$answer" ]; then
		rm -f "$CACHE"/kvm-*
		say "trying whether KVM works on this machine"
		enter_args "$BUILDROOT"
		# Its init is gone at once, which ends the guest, and so QEMU.
		timeout -k 1 15 "${ENTER[@]}" --dev-bind /dev/kvm /dev/kvm \
			--ro-bind "$KERNEL_IMAGE" /run/bzImage --ro-bind "$GUESTIMAGE" /run/root.erofs \
			qemu-system-x86_64 -machine q35 -accel kvm -cpu host -m 512M -nodefaults \
			-display none -no-reboot -kernel /run/bzImage -serial stdio \
			-blockdev driver=file,node-name=root,filename=/run/root.erofs,read-only=on \
			-device virtio-blk-pci,drive=root \
			-append "console=ttyS0 panic=-1 root=/dev/vda rootfstype=erofs ro init=/bin/true" \
			</dev/null 2>&1 | grep -q 'Run /bin/true as init' &&
			echo yes >"$answer" || echo no >"$answer"
	fi
	[ "$(cat "$answer")" = yes ]
}

# qemu_args: sets QEMU.
qemu_args() {
	local i accel
	# No 5-level page tables: while Linux identifies a CPU it forgets for a
	# moment that it uses them, and then KASAN takes every address for a wild one.
	accel=(-accel "tcg,thread=multi" -cpu "max,la57=off")
	if [ -n "$icount" ]; then
		accel=(-accel "tcg,thread=single" -icount "shift=0,sleep=off" -cpu "max,la57=off")
	elif kvm_works; then
		accel=(-accel kvm -cpu host)
		ENTER+=(--dev-bind /dev/kvm /dev/kvm)
	fi
	QEMU=(qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot
		-machine "q35,memory-backend=ram" -m "$mem" -smp "$cpus" "${accel[@]}"
		# An NPU's process reads and writes guest memory itself.
		-object "memory-backend-memfd,id=ram,size=$mem,share=on"
		-kernel /run/bzImage
		-append "console=ttyS0 ignore_loglevel panic=-1 root=/dev/vda rootfstype=erofs ro init=/usr/sbin/lab-boot$append"
		-blockdev "driver=file,node-name=root,filename=/run/root.erofs,read-only=on"
		-device "virtio-blk-pci,drive=root"
		-fsdev "local,id=share,path=/share,security_model=none,multidevs=remap"
		-device "virtio-9p-pci,fsdev=share,mount_tag=share")
	for ((i = 0; i < ${#disks[@]}; i++)); do
		QEMU+=(-blockdev "driver=file,node-name=disk$i,filename=/run/disk$i,read-only=on"
			-device "virtio-blk-pci,drive=disk$i")
	done
	if [ -n "$scratch" ]; then
		QEMU+=(-blockdev "driver=file,node-name=scratch,filename=/run/lab/scratch"
			-device "virtio-blk-pci,drive=scratch,serial=scratch")
	fi
	for ((i = 0; i < npus; i++)); do
		QEMU+=(-device "{\"driver\":\"vfio-user-pci\",\"id\":\"npu$i\",\"socket\":{\"type\":\"unix\",\"path\":\"/run/lab/npu$i\"}}")
	done
}
