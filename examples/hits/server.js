// Counts its visitors in PostgreSQL. DATABASE_URL comes with `flynn resource add postgres`.
const http = require('node:http')
const os = require('node:os')
const { Pool } = require('pg')

const port = Number(process.env.PORT || 8080)
const pool = new Pool({ connectionString: process.env.DATABASE_URL })
// A connection that breaks while it is idle is made anew with the next visitor.
pool.on('error', (error) => console.error(`database: ${error.message}`))

async function countHit() {
  await pool.query('CREATE TABLE IF NOT EXISTS hits (id bigserial PRIMARY KEY, at timestamptz DEFAULT now())')
  const { rows } = await pool.query('INSERT INTO hits DEFAULT VALUES RETURNING id')
  return rows[0].id
}

const server = http.createServer(async (request, response) => {
  response.setHeader('Content-Type', 'text/plain; charset=utf-8')
  try {
    const hit = await countHit()
    response.end(`Hello from Flynn on port ${port} from container ${os.hostname()}\nHits = ${hit}\n`)
  } catch (error) {
    console.error(`no hit was counted: ${error.message}`)
    response.statusCode = 503
    response.end('the database does not answer\n')
  }
})

server.listen(port, '0.0.0.0', () => console.log(`listening on ${port}`))

process.on('SIGTERM', () => server.close(() => pool.end().then(() => process.exit(0))))
