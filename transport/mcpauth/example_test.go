package mcpauth_test

import (
	"context"
	"fmt"
	"log"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/mcpauth"
	"github.com/stayauth/stayauth/transport/provider"
)

// An agent whose user logs in when a server first asks for it, and not again when the agent
// is restarted.
func ExampleNew() {
	ctx := context.Background()
	var cache *tokencache.Cache // oskeyring.Open returns one
	handler, err := mcpauth.New(mcpauth.Config{Cache: cache, Client: provider.Client{Name: "My agent"}})
	if err != nil {
		log.Fatal(err)
	}
	defer handler.Close(ctx) // whatever happens, a refresh that is under way is stored

	client := mcp.NewClient(&mcp.Implementation{Name: "my-agent", Version: "v1"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: "https://mcp.example.com/mcp", OAuthHandler: handler,
	}, nil)
	if err != nil {
		log.Print(err)
		return
	}
	defer session.Close()
	for tool, err := range session.Tools(ctx, nil) {
		if err != nil {
			log.Print(err)
			return
		}
		fmt.Println(tool.Name)
	}
}
