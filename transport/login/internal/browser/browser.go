// Package browser opens pages in the browser of the desktop.
package browser

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Open opens url in the browser of the desktop. It returns when the browser has been asked to,
// which may be before there is a window.
func Open(ctx context.Context, url string) error {
	name, args := opener()
	if name == "" {
		return errors.New("no program is installed that opens one")
	}
	// Not CommandContext: the browser must not end with the login.
	cmd := exec.Command(name, append(args, url)...)
	cmd.Env = environment(os.Environ())
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return errors.New("the program that opens one could not be started")
	}
	// An opener ends at once, or lives as long as the browser that it has started.
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	return nil
}

// opener returns the program that opens URLs on this system, or "".
func opener() (name string, args []string) {
	switch runtime.GOOS {
	case "darwin":
		return "/usr/bin/open", nil
	case "windows":
		return "rundll32.exe", []string{"url.dll,FileProtocolHandler"}
	}
	for _, name := range []string{"xdg-open", "wslview", "sensible-browser", "x-www-browser", "www-browser"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", nil
}

// environment returns the variables that openers, desktops and browsers need. The other
// variables of this program, such as keys and passwords, are none of their business, and would
// be inherited by everything that the browser starts.
func environment(env []string) []string {
	var out []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if runtime.GOOS == "windows" {
			name = strings.ToUpper(name)
		}
		for _, want := range variables {
			if prefix, ok := strings.CutSuffix(want, "*"); name == want || ok && strings.HasPrefix(name, prefix) {
				out = append(out, kv)
				break
			}
		}
	}
	return out
}

var variables = [...]string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR",
	"DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_*", "DBUS_SESSION_BUS_ADDRESS", "DESKTOP_SESSION", "SESSION_MANAGER",
	"GNOME_DESKTOP_SESSION_ID", "KDE_FULL_SESSION", "KDE_SESSION_VERSION", "GTK_MODULES", "QT_*", "BROWSER",
	"WSL_DISTRO_NAME", "WSL_INTEROP", "__CF_USER_TEXT_ENCODING",
	"SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "TEMP", "TMP", "USERNAME", "USERPROFILE", "USERDOMAIN",
	"HOMEDRIVE", "HOMEPATH", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA", "PROGRAMFILES*", "COMMONPROGRAMFILES*", "ALLUSERSPROFILE",
}

// Installed reports whether there is a program for Open to use.
func Installed() bool {
	name, _ := opener()
	return name != ""
}
