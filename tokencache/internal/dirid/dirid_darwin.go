package dirid

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func identify(dir *os.File) (string, error) {
	conn, err := dir.SyscallConn()
	if err != nil {
		return "", err
	}
	var fs unix.Statfs_t
	var st unix.Stat_t
	cerr := conn.Control(func(fd uintptr) {
		if err = unix.Fstatfs(int(fd), &fs); err == nil {
			err = unix.Fstat(int(fd), &st)
		}
	})
	if cerr != nil {
		return "", cerr
	}
	if err != nil {
		return "", err
	}
	if name := unix.ByteSliceToString(fs.Fstypename[:]); name != "apfs" && name != "hfs" || st.Btim.Sec == 0 {
		return "", nil
	}
	return fmt.Sprintf("inode %d created %d.%09d", st.Ino, st.Btim.Sec, st.Btim.Nsec), nil
}
