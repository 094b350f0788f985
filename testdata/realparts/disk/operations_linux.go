package disk

import (
	"encoding/hex"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// An operation changes the disk, forces something onto it, or says something.
type operation struct {
	kind     string // "create", "mkdir", "rename", "remove", "write", "truncate", "sync", "say"
	path, to string
	offset   int
	data     []byte
}

var (
	quoted = regexp.MustCompile(`"((?:\\x[0-9a-f]{2})*)"`)
	places = regexp.MustCompile(`<((?:\\x[0-9a-f]{2})+)>`)
)

func unhex(s string) string {
	b, _ := hex.DecodeString(strings.ReplaceAll(s, `\x`, ""))
	return string(b)
}

// operations translates what strace has seen. It fails at calls that this model does not know.
func operations(lines []line, root string) (ops []operation, err error) {
	offsets := make(map[string]int) // of open files, by descriptor
	for _, l := range lines {
		if strings.HasPrefix(l.result, "-1 ") || strings.HasPrefix(l.result, "?") {
			continue
		}
		var strs, dirs []string
		for _, m := range quoted.FindAllStringSubmatch(l.args, -1) {
			strs = append(strs, unhex(m[1]))
		}
		for _, m := range places.FindAllStringSubmatch(l.args, -1) {
			dirs = append(dirs, unhex(m[1]))
		}
		name := func(i int) (string, bool) {
			path := strs[i]
			if !filepath.IsAbs(path) && i < len(dirs) {
				path = filepath.Join(dirs[i], path)
			}
			below, err := filepath.Rel(root, path)
			return below, err == nil && below != ".." && !strings.HasPrefix(below, "../")
		}
		fd, _, _ := strings.Cut(l.args, "<")
		open := func() (string, bool) { // the file that the first argument is
			if len(dirs) == 0 {
				return "", false
			}
			below, err := filepath.Rel(root, dirs[0])
			return below, err == nil && below != ".." && !strings.HasPrefix(below, "../")
		}
		switch l.call {
		case "openat":
			opened, _, _ := strings.Cut(l.result, "<")
			delete(offsets, opened)
			path, ours := name(0)
			if ours && strings.Contains(l.args, "O_CREAT") {
				ops = append(ops, operation{kind: "create", path: path})
			}
			if ours && strings.Contains(l.args, "O_TRUNC") {
				ops = append(ops, operation{kind: "truncate", path: path})
			}
			if strings.Contains(l.args, "O_APPEND") && ours {
				return nil, fmt.Errorf("%s is appended to", path)
			}
		case "mkdirat":
			if path, ours := name(0); ours {
				ops = append(ops, operation{kind: "mkdir", path: path})
			}
		case "renameat", "renameat2":
			from, ours := name(0)
			if to, _ := name(1); ours {
				ops = append(ops, operation{kind: "rename", path: from, to: to})
			}
		case "unlinkat":
			if path, ours := name(0); ours {
				ops = append(ops, operation{kind: "remove", path: path})
			}
		case "write":
			n, _ := strconv.Atoi(l.result)
			if path, ours := open(); ours {
				ops = append(ops, operation{kind: "write", path: path, offset: offsets[fd], data: []byte(strs[0][:n])})
				offsets[fd] += n
			} else if fd == "1" {
				ops = append(ops, operation{kind: "say", data: []byte(strs[0])})
			}
		case "ftruncate":
			if path, ours := open(); ours {
				size, err := strconv.Atoi(l.args[strings.LastIndex(l.args, " ")+1:])
				if err != nil {
					return nil, err
				}
				ops = append(ops, operation{kind: "truncate", path: path, offset: size})
			}
		case "fsync", "fdatasync":
			if path, ours := open(); ours {
				ops = append(ops, operation{kind: "sync", path: path})
			}
		default:
			return nil, fmt.Errorf("what a power failure does to a %s is not known here", l.call)
		}
	}
	return ops, nil
}
