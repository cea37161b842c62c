// A TLS handshake between a server with an issued certificate and a client that trusts only the root:
// node tls-handshake.mjs ROOT FULLCHAIN KEY NAME
import { readFileSync } from "node:fs";
import { createServer, request } from "node:https";

const [root, fullChain, key, name] = process.argv.slice(2);
const server = createServer({ cert: readFileSync(fullChain), key: readFileSync(key) }, (_, response) => {
  response.end("hello");
});
server.listen(0, "127.0.0.1", () => {
  const { port } = server.address();
  const options = { host: "127.0.0.1", port, servername: name, headers: { host: name }, ca: readFileSync(root) };
  const exchange = request(options, (response) => {
    const { authorized, authorizationError } = response.socket;
    console.log(authorized ? "trusted" : `refused: ${authorizationError}`);
    response.resume();
    response.on("end", () => server.close());
  });
  exchange.on("error", (error) => {
    console.error(error.message);
    process.exitCode = 1;
    server.close();
  });
  exchange.end();
});
