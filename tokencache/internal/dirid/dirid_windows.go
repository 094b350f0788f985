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
	// The index has a part that changes when the file system uses a number again, so the time
	// of creation, which Wine does not know, is not needed.
	return fmt.Sprintf("volume %08x file %d", info.VolumeSerialNumber, uint64(info.FileIndexHigh)<<32|uint64(info.FileIndexLow)), nil
}
