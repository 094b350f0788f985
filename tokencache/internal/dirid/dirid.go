// Package dirid tells a directory from its copies.
package dirid

import "os"

// Of returns what a directory under root has, and no copy of it: the number that its file system
// gives it, and when it was created there or, on Windows, the volume. They stay when it is
// renamed, its content changes or the machine is restarted. It returns "" where one of them is
// unknown, or not sure to last: on network shares, on the layers of a container's image, and on
// file systems that nobody has tried.
func Of(root *os.Root, name string) (string, error) {
	dir, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	return identify(dir)
}
