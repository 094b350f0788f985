package clients

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/stayauth/stayauth/transport"
)

// A session of the Model Context Protocol outlives the tokens. The token is rejected when the
// session begins, at the stream of what the server has to say, or at a call.
func TestMCP(t *testing.T) {
	for name, reject := range map[string]func(*http.Request) bool{
		"begin":  atFirst("POST"),
		"stream": atFirst("GET"),
		"call":   func(r *http.Request) bool { return r.Method == "POST" && r.Header.Get("Mcp-Session-Id") != "" },
	} {
		t.Run(name, func(t *testing.T) { testMCP(t, reject) })
	}
}

func testMCP(t *testing.T, reject func(*http.Request) bool) {
	server := mcp.NewServer(&mcp.Implementation{Name: "server"}, nil)
	type text struct {
		Text string `json:"text"`
	}
	mcp.AddTool(server, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, in text) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: in.Text}}}, nil, nil
	})
	api := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server },
		&mcp.StreamableHTTPOptions{DisableLocalhostProtection: true}) // The fake listens there.
	w := newWorld(t, api, reject, transport.Config{})
	session, err := mcp.NewClient(&mcp.Implementation{Name: "client"}, nil).Connect(t.Context(),
		&mcp.StreamableClientTransport{Endpoint: apiURL + "/mcp", HTTPClient: w.client}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	w.keepsWorking(func(ctx context.Context) error {
		result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "echo", Arguments: text{string(large)}})
		if err != nil {
			return err
		}
		if len(result.Content) != 1 || result.Content[0].(*mcp.TextContent).Text != string(large) {
			return fmt.Errorf("another text came back")
		}
		return nil
	})
}
