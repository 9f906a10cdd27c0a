const { createServer } = require("node:http");
const { createSchema, createYoga } = require("graphql-yoga");

const { renderGraphiQL } = require("@graphql-yoga/render-graphiql");

const [host, port] = process.argv.slice(2);
const schema = createSchema({
  typeDefs: "type Query { hello: String } type Subscription { count: Int }",
  resolvers: {
    Query: { hello: () => "world" },
    Subscription: {
      count: {
        async *subscribe() {
          for (let count = 1; count <= 3; count++) {
            await new Promise((done) => setTimeout(done, 200));
            yield { count };
          }
        },
      },
    },
  },
});
createServer(createYoga({ schema, renderGraphiQL })).listen(Number(port), host);
