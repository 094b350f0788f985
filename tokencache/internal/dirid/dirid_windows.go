package dirid

import (
	"fmt"
	"os"

	"golang.org/x/sys/windows"
)

func identify(dir *os.File) (string, error) {
	conn, err := dir.SyscallConn()
	if err != nil {
		return "", err
	}
	var name [windows.MAX_PATH + 1]uint16
	var info windows.ByHandleFileInformation
	cerr := conn.Control(func(fd uintptr) {
		err = windows.GetVolumeInformationByHandle(windows.Handle(fd), nil, 0, nil, nil, nil, &name[0], uint32(len(name)))
		if err == nil {
			err = windows.GetFileInformationByHandle(windows.Handle(fd), &info)
		}
	})
	if cerr != nil {
		return "", cerr
	}
	if err != nil || windows.UTF16ToString(name[:]) != "NTFS" {
		return "", err
	}
	return fmt.Sprintf("file %d created %d", uint64(info.FileIndexHigh)<<32|uint64(info.FileIndexLow), info.CreationTime.Nanoseconds()), nil
}
