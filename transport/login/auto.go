package login

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"runtime"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/login/internal/browser"
)

// Auto logs in in the way that suits the place where the program runs, and says which way that
// is: Loopback if there is a desktop, else Device if the provider supports it for this client, else
// Paste.
// Errors are those of the way that it chooses.
func Auto(ctx context.Context, cfg Config) (*tokencache.Record, error) {
	if cfg.Endpoint != nil && cfg.Provider != nil { // Of a cause that no login cures nothing else is said.
		if err := (&flow{Config: cfg}).answerCause(); err != nil {
			return nil, err
		}
	}
	out := cfg.Out
	if out == nil {
		out = os.Stderr
	}
	why := noBrowser(os.Getenv, runtime.GOOS)
	if why == "" && cfg.Open == nil {
		if !browser.Installed() {
			why = "There is no browser here"
		}
	}
	switch {
	case cfg.Provider != nil && cfg.Provider.AuthURL == "":
		return Device(ctx, cfg) // There is no other way.
	case why == "":
		io.WriteString(out, "Logging in with the browser on this machine.\n")
		return Loopback(ctx, cfg)
	case cfg.Provider != nil && cfg.Provider.DeviceAuthURL != "":
		io.WriteString(out, why+", so logging in with a code that you enter on another device.\n")
		rec, err := Device(ctx, cfg)
		if !withoutDevices(err) {
			return rec, err
		}
		why = "There are no such codes for this program"
	}
	io.WriteString(out, why+", so logging in with a browser on another machine.\n")
	return Paste(ctx, cfg)
}

// withoutDevices reports whether the provider has no device flow, as older servers of GitLab, or
// none for this client (RFC 8628 section 3.2, RFC 6749 section 5.2).
func withoutDevices(err error) bool {
	e, ok := errors.AsType[*transport.Error](err)
	return ok && e.Op == deviceAuthorization && (e.Status == http.StatusNotFound || e.Code == "unauthorized_client")
}

// noBrowser says why the user cannot see a browser that opens on this machine; it returns "" if
// there is no such reason.
func noBrowser(env func(string) string, goos string) string {
	if env("SSH_CONNECTION") != "" || env("SSH_CLIENT") != "" || env("SSH_TTY") != "" {
		return "This is a session over SSH"
	}
	switch goos {
	case "windows", "darwin":
		return ""
	}
	// WSL shows the browser of Windows, which reaches listeners in here.
	if env("DISPLAY") == "" && env("WAYLAND_DISPLAY") == "" && env("WSL_DISTRO_NAME") == "" {
		return "There is no display here"
	}
	return ""
}
