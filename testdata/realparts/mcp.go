package realparts

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// An MCPServer is the example of a protected server that the official Go SDK comes with. It has
// one tool, "echo", and wants the scope "read".
type MCPServer struct {
	Server

	binary string
}

// An MCPSetting is what the example leaves open: whose tokens it takes, and where it asks about
// them (RFC 7662), with which credentials.
type MCPSetting struct {
	Issuer, Introspection string
	Client                Client
}

// StartMCPServer starts one that ends with the test. The module that the test is in says which
// version of the SDK that is.
func StartMCPServer(t testing.TB, s MCPSetting) *MCPServer {
	t.Helper()
	const what = "the Go command, and sh"
	sh, err := exec.LookPath("sh")
	Require(t, what, err)
	m := &MCPServer{Server: Server{Port: FreePort(t), t: t, what: "the MCP server", stop: "TERM", crash: "KILL"}, binary: filepath.Join(t.TempDir(), "server")}
	m.command = func() (string, []string) {
		return sh, []string{"-c", untilInput, "sh", m.binary, fmt.Sprint("-port=", m.Port)}
	}
	m.ready = func() error { return dial(m.Port) }
	m.build(s)
	m.run()
	return m
}

// URL is its address.
func (m *MCPServer) URL() string { return fmt.Sprintf("http://localhost:%d/mcp", m.Port) }

// Change starts it again with another setting. It forgets all sessions.
func (m *MCPServer) Change(s MCPSetting) {
	m.t.Helper()
	m.Stop()
	m.build(s)
	m.Start()
}

func (m *MCPServer) build(s MCPSetting) {
	m.t.Helper()
	var set strings.Builder
	for name, value := range map[string]string{"authorizationServer": s.Issuer, "introspectionEndpoint": s.Introspection, "clientID": s.Client.ID, "clientSecret": s.Client.Secret} {
		set.WriteString(" -X=main." + name + "=" + value)
	}
	out, err := exec.Command("go", "build", "-o", m.binary, "-ldflags=-s -w"+set.String(), "github.com/modelcontextprotocol/go-sdk/examples/auth/server").CombinedOutput()
	Require(m.t, "the example of the MCP SDK", wrap(err, out))
}

func wrap(err error, out []byte) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w\n%s", err, out)
}
