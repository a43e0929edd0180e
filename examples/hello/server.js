// A page that says which process answered. No dependencies.
const http = require('node:http')
const os = require('node:os')

const port = Number(process.env.PORT || 8080)

const server = http.createServer((request, response) => {
  response.setHeader('Content-Type', 'text/plain; charset=utf-8')
  response.end(`Hello from Flynn on port ${port} from container ${os.hostname()}\n`)
})

server.listen(port, '0.0.0.0', () => console.log(`listening on ${port}`))

// Requests that are under way are answered before the process ends.
process.on('SIGTERM', () => server.close(() => process.exit(0)))
